"""Files of any format: options, layouts, rows that are read and written."""
