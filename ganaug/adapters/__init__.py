"""ganaug inside other people's training code: each library's own way of asking for synthetic images.

A module imports the library that it serves, and `ganaug` imports the module when its name is used.
"""
