"""The first capstone: a released model whose rule is not told, and the judges of what a learner says about it."""
