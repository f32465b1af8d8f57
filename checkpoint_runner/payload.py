"""The one constant that a delivery carries.

RQ's hash of a delivery names the function to call, in the form of RQ's default serializer, so that
a stock `rq worker` can read it: ("checkpoint_runner.delivery.run", None, (), {}), compressed. It is
a constant in both directions: it is written as these bytes and recognised by comparing them.
"""

PAYLOAD = (
    b"x\x9ck`\x9d\xaa\xc9\x00\x01\x1a=r\xc9\x19\xa9\xc9\xd9\x05\xf9\x99y%\xf1E\xa5yy\xa9Ez)\xa99\x99e\xa9E\x95z"
    b"@\xfe\x14?\xcd\xda)%S\xf4\x00\x8f\xff\x11\x9e"
)

DELIVERED_CALL = ("checkpoint_runner.delivery.run", None, (), {})  # type: tuple[str, None, tuple[()], dict[str, object]]
"""What the payload says once it is read."""
