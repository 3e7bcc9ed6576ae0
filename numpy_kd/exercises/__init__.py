"""Exercises that explain mistakes, and a grader that cannot be talked into a grade."""

from numpy_kd.exercises.in_the_notebook import check, hint, predict, reveal

__all__ = ["check", "hint", "predict", "reveal"]
