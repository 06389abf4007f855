"""llmcourse: the models, training, corpora, views and exercises of a course on large language models.

Every import names the file to open: `from llmcourse.attention import attention_weights`.
"""

__version__ = "0.1.0"
