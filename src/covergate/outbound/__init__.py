"""Everything that leaves this process over HTTP leaves through a client made here: vendor calls and partners' webhooks."""
