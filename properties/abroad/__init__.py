"""Silent failures injected into other libraries: what our claims notice, and what their own tests do."""
