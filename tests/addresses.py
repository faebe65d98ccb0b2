"""Addresses and tricks by which somebody has a server call what it must not.

`OF_THE_NETWORK` may be called where the operator opened his networks, the others never. The first
three lists are hosts, `NO_HTTP` are URLs.
"""

OF_THE_NETWORK = [
    # this machine
    *("127.0.0.1", "127.0.0.1:22", "127.1.2.3", "127.255.255.254", "[::1]", "[0:0:0:0:0:0:0:1]"),
    *("127.0.0.1.", "localhost", "LOCALHOST", "localhost.", "localhost.localdomain"),
    *("anything.localhost", "ip6-localhost", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "ｌocalhost"),
    # RFC 1918, 6598, 4193
    *("10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1"),
    *("100.64.0.1", "100.127.255.255", "[fc00::1]", "[fd12:3456::1]"),
    # special purposes
    *("192.0.0.1", "192.0.0.8", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.19.255.255"),
    *("198.51.100.1", "203.0.113.1", "240.0.0.1", "254.1.2.3"),
    *("[100::1]", "[2001:db8::1]", "[2001:2::1]", "[2001:10::1]", "[3fff::1]", "[5f00::1]"),
    "[fec0::1]",
    # IPv4 inside IPv6: mapped, compatible, translated, 6to4, NAT64, Teredo, ISATAP
    *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:10.0.0.1]", "[::127.0.0.1]"),
    *("[::10.0.0.1]", "[::ffff:0:127.0.0.1]", "[2002:7f00:1::]", "[2002:a00:1::1]"),
    *("[64:ff9b::127.0.0.1]", "[64:ff9b::10.0.0.1]", "[64:ff9b:1::10.0.0.1]"),
    "[2001:0:7f00:1:0:0:fefe:fefe]",  # the relay is this machine
    "[2001:0:101:101:0:0:f5ff:fffe]",  # the client is 10.0.0.1
    *("[2606:4700::5efe:127.0.0.1]", "[2606:4700::200:5efe:10.0.0.1]"),
    # digits and dots of other scripts become ours before anybody looks
    *("１２７.0.0.1", "①②⑦.⓪.⓪.①", "127。0。0。1"),
]

NEVER = [
    # where clouds hand out credentials
    *("169.254.169.254", "169.254.169.254.", "169.254.170.2", "169.254.170.23", "100.100.100.200"),
    *("168.63.129.16", "192.0.0.192", "[fd00:ec2::254]", "[fd00:ec2::23]", "[fd20:ce::254]"),
    *("metadata.google.internal", "METADATA.google.internal.", "metadata.goog", "metadata"),
    *("instance-data", "instance-data.ec2.internal", "metadata.tencentyun.com"),
    # the same inside IPv6
    *("[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "[::169.254.169.254]"),
    *("[64:ff9b::169.254.169.254]", "[64:ff9b:1::a9fe:a9fe]", "[2002:a9fe:a9fe::1]"),
    *("[::ffff:0:169.254.169.254]", "[2606:4700::5efe:169.254.169.254]"),
    "[2001:0:a9fe:a9fe:0:0:fefe:fefe]",
    # link-local, multicast, broadcast, unspecified
    *("169.254.0.1", "[fe80::1]", "[febf::1]", "224.0.0.1", "239.255.255.250", "[ff02::1]"),
    *("255.255.255.255", "0.0.0.0", "0.1.2.3", "[::]", "[::ffff:0.0.0.0]", "[64:ff9b::0.0.0.0]"),
]

UNREADABLE = [
    # numbers in other notations
    *("2130706433", "0x7f000001", "017700000001", "0177.0.0.1", "0x7f.0.0.1", "127.1", "127.0.1"),
    *("0", "0x", "1.2.3.4.5", "256.256.256.256", "127.0.0.01", "3232235521", "0xa9fea9fe"),
    *("２８５２０３９１６６", "[127.0.0.1]", "[::1", "::1]", "[v7.1]"),
    # zones
    *("[::1%25lo]", "[::ffff:127.0.0.1%25lo]", "[fd00:ec2::254%25eth0]", "[fe80::1%eth0]"),
    # what one parser takes for the end of a host and another does not
    *("127.0.0.1%00.example.org", "localhost%00.example.org", "127.0.0.1\0.example.org"),
    *("%6c%6f%63%61%6c%68%6f%73%74", "%31%32%37.0.0.1", "127.0.0.1%2f.example.org"),
    *("127.0.0.1%25.x", "exa mple.org", "127.0.0.1;.example.org", "localhost,example.org"),
    *("example.org\\@127.0.0.1", "127.0.0.1\\@example.org", "example.org\r\nHost: 127.0.0.1"),
    *("[::1].example.org", "example.org[::1]", "local\xadhost", "\u200blocalhost"),
    # credentials
    *("user:hunter2@example.org", ":@127.0.0.1", "example.org:443@127.0.0.1", "a@b@127.0.0.1"),
    # ports that are none
    *("127.0.0.1:80:80", "127.0.0.1:99999", "127.0.0.1:-1"),
]

NO_HTTP = [
    *("", "//127.0.0.1/", "/etc/passwd", "file:///etc/passwd", "ftp://127.0.0.1/", "data:,x"),
    *("gopher://127.0.0.1:11211/_stats", "dict://127.0.0.1:11211/", "ldap://127.0.0.1/"),
    *("unix:///var/run/docker.sock", "jar:https://127.0.0.1!/", "javascript:alert(1)"),
    *("https:127.0.0.1", "https:/127.0.0.1/", "https:///127.0.0.1/", "ws://127.0.0.1/"),
]
