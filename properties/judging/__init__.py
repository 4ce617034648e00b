"""What a claim is, how it is judged, and by which bound:

the register, the assertions, the one error model.
"""
