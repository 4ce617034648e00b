"""The reference table: what each method computes, by its oracle, its bindings and an audit's outcomes."""
