"""Exercises that explain mistakes, and a grader that cannot be talked into a grade."""
