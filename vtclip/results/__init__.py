"""From predictions to tables and figures."""
