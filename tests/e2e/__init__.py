"""The promises of the product on a real cluster, through the real command line, under real traffic.

service    one service in a namespace of its own, and the commands that a person or a pipeline would type for it
states     the stage table as the design has it, written out by hand: nothing here asks the product what is right
walk       moves under load: what was sent, what was lost, and whether the cluster is then as the table says
plain      the eight commands that this product replaces, on the same harness: it has to see their losses
hands      what other hands do: people with kubectl, autoscalers, the machine itself
settling   the account of a test in which requests may be lost until something is mended
ledger     requests sent and lost, move by move; printed at the end of the run
"""
