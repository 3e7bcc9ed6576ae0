"""For all tests: a Ctrl-C is heard, also where a shell has started them in the background."""

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)
