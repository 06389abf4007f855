"""Generated corpora, each with its ground truth, and text written for this course."""
