"""Report: the figures of an evaluation for readers.

page: writes reports/forgetting.html from report.html.j2, one template a section in sections/.
item_list: the items on the page, for report.js.
charts: positions for the page's SVG charts.
model_names: which models are shown, and what they are called.
plot_files: reads loss curves and the funnel of curation.
formats: numbers as page and Markdown print them.
markdown: a summary for a pull request.
terminal: the result of a run at the terminal.
gate_summary: the result of `lmadapt gate BEFORE AFTER`, at the terminal and as Markdown.
side_by_side: judges any two models outside the pipeline.
"""
