"""The bench: the course's models and tokenizers beside well-known libraries, the same work turn by turn in one run."""
