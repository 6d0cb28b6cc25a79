"""See and steer queues in a browser: a dashboard to mount in an application, or to run alone.

::

    from alligator.web import Dashboard

    dashboard = Dashboard(gator)
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {'/queues': dashboard.wsgi})  # Flask
    app.mount('/queues', dashboard.asgi)  # FastAPI and Starlette
    re_path('^queues/', dashboard.django)  # Django

It needs the extra ``web``, ``pip install 'alligator[web]'``. It may import all of Alligator but the
command line. Nothing here knows a web framework: an adaptor makes a :class:`Request` of what its
server has, and sends the :class:`Response`.
"""

from alligator.web.actions import ActionRecord
from alligator.web.dashboard import Dashboard
from alligator.web.http.messages import Request, Response

__all__ = ["ActionRecord", "Dashboard", "Request", "Response"]
