"""How each vendor stands: its circuit, an operator's hold, its rate, its record. Shared by all processes through PostgreSQL."""
