"""How claims are declared and judged: the register, the assertions, the one error model."""
