"""The figures for readers: a page, charts, Markdown, a table at the terminal."""
