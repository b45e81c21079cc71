"""Files, folders, hub data sets and modules, read row by row into the raw tables of five roles."""
