# A server whose `host` base layer is this image's Debian.
FROM python:3.12-slim-bookworm

COPY . /usr/src/condery
RUN pip install --no-cache-dir -c /usr/src/condery/constraints.txt /usr/src/condery && rm -r /usr/src/condery

ENV CONDERY_HOST=0.0.0.0 CONDERY_DATA_DIRECTORY=/var/lib/condery CONDERY_LOG_FORMAT=json
RUN useradd --system --create-home --home-dir /var/lib/condery condery
USER condery
VOLUME /var/lib/condery
EXPOSE 5000
CMD ["condery", "serve"]
