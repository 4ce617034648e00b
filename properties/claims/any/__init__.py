"""Claims without a formula, about the methods of every library: pytest --subject NAME."""
