"""What a front desk asks of a result, answered from the result alone: a file for each kind of question."""
