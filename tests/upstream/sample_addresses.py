"""Private and public addresses in every form that a URL may have."""

LOOPBACK_FORMS = [
    *("127.0.0.1", "127.0.0.2", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0x7F.0.0.1", "0177.0.0.1"),
    *("017700000001", "0177.1", "127.0.0.1.", "00127.0.0.1", "127.000.000.001", "0", "0.0.0.0", "0x0", "00"),  # noqa: S104
    *("localhost", "localhost.", "LOCALHOST", "①②⑦.⓪.⓪.①", "127。0。0。1", "127%2e0%2e0%2e1", "%31%32%37.0.0.1"),
    *("[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::127.0.0.1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
    *("[0:0:0:0:0:ffff:7f00:0001]", "[::ffff:0:127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]"),
    *("[2002:7f00:1::]", "[2002:7f00:1::1]", "[2001:0:7f00:1::]", "[::1%25lo]", "[fe80::1%25lo]"),
]


OTHER_PRIVATE_FORMS = [
    *("10.0.0.1", "172.16.0.1", "172.31.255.254", "192.168.1.1", "100.64.0.1", "100.100.100.200", "169.254.169.254"),
    *("169.254.170.2", "168.63.129.16", "192.0.0.8", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1"),
    *("203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "2852039166", "0xa9fea9fe"),
    *("[fd00:ec2::254]", "[fc00::1]", "[fe80::1]", "[fec0::1]", "[ff02::1]", "[100::1]", "[2001:db8::1]", "[3fff::1]"),
    *("[2001:10::1]", "[2001:2::1]", "[2002:a9fe:a9fe::]", "[64:ff9b::a9fe:a9fe]", "[::ffff:169.254.169.254]"),
    *("[5f00::1]", "[4000::1]", "[e000::1]"),
]


PRIVATE_FORMS = [*LOOPBACK_FORMS, *OTHER_PRIVATE_FORMS]


# Names that lead into a private network wherever they are resolved.
LOCAL_NAMES = [
    *("ip6-localhost.localdomain", "localhost.localdomain", "x.localhost", "ⓛocalhost", "metadata.google.internal"),
    *("printer.local", "router.lan", "wiki.corp", "nas.home", "vault.intranet", "1.0.0.127.in-addr.arpa", "db.private"),
]


# URLs whose real host, scheme or port is not the one that a careless reader sees.
DECEPTIVE_URLS = [
    *("https://seller.example@127.0.0.1/", "https://seller.example:443@127.0.0.1/", "https://user:word@127.0.0.1/"),
    *("https://seller.example%2f@127.0.0.1/", "https://seller.example\\@127.0.0.1/", "https://@127.0.0.1/"),
    *("https://127.0.0.1#@seller.example/", "https://127.0.0.1?@seller.example/", "https://127.0.0.1/@seller.example"),
    *("https://127.0.0.1%00.seller.example/", "https://127.0.0.1%0d%0a.seller.example/", "https://127.0.0.1%23.x/"),
    *("https://127.0.0.1\t/", "https://127.0.0.1\r\nHost: seller.example/", "\x00https://127.0.0.1/"),
    *("HTTPS://127.0.0.1/", "hTTps://[::1]/", "https:127.0.0.1", "https:/127.0.0.1/", "https:///127.0.0.1/"),
    *("https://127.0.0.1:PORT/", "https://127.0.0.1:443/", "https://127.0.0.1:/", "https://[::1]:PORT/"),
    *("http://127.0.0.1:PORT/", "http://seller.example/", "http://seller.example:443/", "https://seller.example:PORT/"),
    *("https://seller.example:+443@127.0.0.1/", "https://[::ffff:127.0.0.1%25lo]/", "https://[::1]@seller.example/"),
    *("file://127.0.0.1/etc/passwd", "file:///etc/passwd", "ftp://127.0.0.1:PORT/", "gopher://127.0.0.1:PORT/_GET"),
    *("ws://127.0.0.1:PORT/", "wss://127.0.0.1/", "dict://127.0.0.1:PORT/", "ldap://127.0.0.1:PORT/", "unix:/run/x"),
    *("jar:https://127.0.0.1!/", "view-source:https://127.0.0.1/", "javascript:alert(1)", "blob:https://127.0.0.1/1"),
    *(
        "https+unix://127.0.0.1/",
        "https//127.0.0.1/",
        "\\\\127.0.0.1\\image.png",
        "127.0.0.1",
        "https://",
        "https://:443/",
    ),
]


# Answers of a name server.
PRIVATE_ADDRESSES = [form.strip("[]") for form in OTHER_PRIVATE_FORMS if "." in form or ":" in form] + [
    *("127.0.0.1", "127.0.0.2", "0.0.0.0", "::1", "::", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:0:127.0.0.1"),  # noqa: S104
    *("64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::", "::1%lo", "fe80::1%lo", "127.1", ""),
]


PUBLIC_ADDRESSES = ["93.184.215.14", "1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "2a00:1450:4001:82a::200e"]
