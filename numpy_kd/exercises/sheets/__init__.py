"""What is asked: a file a sheet; a long sheet's second file bears its sheet in the name."""
