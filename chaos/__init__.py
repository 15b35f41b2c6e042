"""Random commands, deaths, edits and outages on one service under load: what no list of cases thought of.

__main__   the arguments, and the account at the end
deeds      what may happen, and how likely it is
"""
