"""What operators, sensors and notifiers share."""
