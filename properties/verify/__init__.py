"""Does this adapter act on this base, in every layer, before and after the merge?"""
