"""From a folder of files to a gradebook, by way of processes that are not trusted."""
