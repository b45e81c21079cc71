"""The language model: where it comes from, how it is loaded, spoken to and scored.

base_model: copies the base model from a folder or from the Hugging Face hub, and checks it.
fetched_model: writes the base model that fetch asks for, copied or made by a Python module.
weights_check: checks a model's files, tensors and token ids from file headers alone.
loading: loads a model in bf16 or NF4, with or without an adapter; saves one.
chat: turns conversations into tokens and labels by the chat template.
generation: answers conversations, in batches or as a stream.
system_messages: system messages, for templates with and without them.
questions: turns multiple-choice items and documents into tokens to be scored.
token_trees: packs questions into trees, so that shared tokens are computed once.
log_likelihoods: computes the log-likelihood of every continuation of every question.
merging: merges an adapter into the weights of its base.
"""
