"""Signing in with a browser, and signing in a device by one.

login     GET and POST /login, POST /logout: with name and password
provider  GET /login/provider and /login/callback: at a provider
device    POST /device/code, GET and POST /device: a program that has no browser
sessions  browsers that are signed in
form      what a form of ours has sent, and no other page's
page      the pages themselves
cookie    what a browser keeps
"""
