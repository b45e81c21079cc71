"""From raw documents to clean, validated tables, with a reason for every document; knows no model but its tokenizer."""
