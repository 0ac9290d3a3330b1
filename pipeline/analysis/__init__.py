"""Tables in, tables out: fronts and statistics. No torch."""
