"""Queues on beanstalkd."""
