"""Knowledge distillation from scratch in NumPy: every gradient written by hand, and checked."""
