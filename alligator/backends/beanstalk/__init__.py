"""Keep queues on beanstalkd.

May import ``backends`` and what that may import; needs greenstalk. Exports nothing: use
``alligator.backends.beanstalk_backend.Client``.
"""
