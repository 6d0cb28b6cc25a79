"""An application with orders, and tasks that write down what they see."""
