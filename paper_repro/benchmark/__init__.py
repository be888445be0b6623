"""How fast this suite trains a learning-rate study, beside a plain loop on the same machine.

Nothing else imports this.
"""
