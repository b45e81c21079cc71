"""From raw tables to clean ones, with a decision and a reason for every row.

- sequence: the steps of curation, from top to bottom
- settings: what section `curate` of params.yaml sets
- screening: what is done to each group of rows by itself
- parallel, preload: where groups are screened; what each process loads first
- scratch: the files in which screened rows wait
- decisions: what was decided about each row, and errors that stop curation

Rules, one a file:

- cleaning: repair of encoding, control characters and Unicode form
- boilerplate: lines that many documents of a source have
- personal_data: personal data and secrets become placeholders
- quality: filters with published limits; conversations and items that are broken
- languages: allowed languages
- evaluation_items: broken and repeated evaluation items
- leaks: training text that gives an item away
- evaluation_entities: training text about what an item asks about
- duplicates: exact and near-duplicates
- splitting: held-out text, and what must go because of it
- category_cap: a limit on the instructions of each category

What the rules measure with:

- word_hashes: words of a text and their hashes
- near_duplicates: pairs of similar texts
- signs: operators and pictographs, by which equal words may differ
- decontamination, paraphrases: where an item's words, or its meaning, occur
- text_statistics: what the filters of `quality` have limits for
- difficulty: how hard a text is to guess
- kernels: the compiled functions of these

What curation reports:

- funnel: rows left after each step
- metrics: counts by rule, sizes of tables
"""
