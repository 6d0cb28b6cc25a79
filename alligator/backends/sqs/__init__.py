"""Keep queues on Amazon SQS, or on a service that speaks its protocol.

May import ``backends`` and what that may import; needs boto3. Exports nothing: use
``alligator.backends.sqs_backend.Client``.
"""
