"""Events for partners: subscriptions, deliveries, signatures."""
