#!/usr/bin/env python3
"""Makes the corpus of `cargo xtask bench delta`: pairs of versions that followed each other, from packages of public registries.

    scripts/delta-corpus.py DIRECTORY

writes DIRECTORY/CLASS/NAME/old and …/new. Packages come by `npm pack` and `apt-get download`; what cannot be had is
left out and said. Class `dyn_fields` is made of three of the pages: the same page twice, with other fields in it.
"""

import io
import pathlib
import random
import subprocess
import sys
import tarfile
import tempfile

# Class, package, old version, new version, file in the package.
NPM = """
js react-dom 19.3.0 19.3.1 cjs/react-dom-client.production.js
js react-dom 19.2.9 19.3.0 cjs/react-dom-client.production.js
js jquery 3.7.0 3.7.1 dist/jquery.min.js
js jquery 3.7.1 3.8.0 dist/jquery.js
js lodash 4.17.23 4.18.0 lodash.js
js lodash 4.18.0 4.18.1 lodash.min.js
js vue 3.5.44 3.5.45 dist/vue.global.prod.js
js vue 3.5.43 3.5.44 dist/vue.global.js
js three 0.186.1 0.187.0 build/three.cjs
js three 0.186.1 0.187.0 build/three.core.js
js d3 7.9.0 7.9.2 dist/d3.min.js
js @tailwindcss/browser 4.3.3 4.3.4 dist/index.global.js
js bootstrap 5.3.8 5.3.9 dist/js/bootstrap.bundle.min.js
js swagger-ui-dist 5.34.1 5.35.0 swagger-ui-bundle.js
js antd 6.6.7 6.6.8 dist/antd.min.js
js plotly.js-dist-min 4.1.1 4.1.2 plotly.min.js
css bootstrap 5.3.8 5.3.9 dist/css/bootstrap.min.css
css bootstrap 5.3.7 5.3.8 dist/css/bootstrap.css
css bootstrap 5.2.3 5.3.0 dist/css/bootstrap.min.css
css swagger-ui-dist 5.34.1 5.35.0 swagger-ui.css
css @fortawesome/fontawesome-free 7.3.0 7.3.1 css/all.min.css
css bootstrap-icons 1.13.1 1.13.2 font/bootstrap-icons.min.css
css antd 6.6.7 6.6.8 dist/antd.css
html npm 12.1.0 12.2.0 docs/output/commands/npm-install.html
html npm 12.1.0 12.2.0 docs/output/using-npm/config.html
html npm 11.0.0 12.0.0 docs/output/using-npm/config.html
json @mdn/browser-compat-data 8.1.7 8.1.9 data.json
json caniuse-db 1.0.30001812 1.0.30001813 data.json
json caniuse-lite 1.0.30001823 1.0.30001826 data/agents.js
json mdn-data 2.36.0 2.37.1 css/properties.json
json electron-to-chromium 1.5.491 1.5.492 full-versions.json
json @iconify-json/mdi 1.2.2 1.2.3 icons.json
json mime-db 1.53.0 1.54.0 db.json
svg bootstrap-icons 1.12.1 1.13.1 bootstrap-icons.svg
svg @fortawesome/fontawesome-free 7.2.0 7.3.0 sprites/solid.svg
wasm esbuild-wasm 0.28.1 0.28.2 esbuild.wasm
wasm sql.js 1.15.2 1.16.0 dist/sql-wasm.wasm
wasm sql.js 1.15.1 1.15.2 dist/sql-wasm.wasm
font @fortawesome/fontawesome-free 7.3.0 7.3.1 webfonts/fa-solid-900.woff2
font bootstrap-icons 1.13.1 1.13.2 font/fonts/bootstrap-icons.woff2
"""
# Package, old version, new version, directory, files.
DEBIAN = [
    ("postgresql-doc-15", "15.18-0+deb12u1", "15.20-0+deb12u1", "usr/share/doc/postgresql-doc-15/html",
     "release-15 bookindex sql-createtable runtime-config-client functions-json"),
    ("python3.11-doc", "3.11.2-6+deb12u8", "3.11.2-6+deb12u9", "usr/share/doc/python3.11/html",
     "genindex-all library/tarfile library/functions whatsnew/3.11"),
    ("apache2-doc", "2.4.68-1~deb12u1", "2.4.71-1~deb12u1", "usr/share/doc/apache2-doc/manual/en/mod",
     "core mod_ssl directives"),
]
PAGES = ["npm-install", "tarfile", "core"]


def npm(package, version, into, known={}):
    """Files of a package, by their path in it."""
    key = (package, version)
    if key not in known:
        where = tempfile.mkdtemp(dir=into)
        command = ["npm", "pack", "--silent", f"{package}@{version}", "--pack-destination", where]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=300)
        archive = next(pathlib.Path(where).glob("*.tgz"))
        with tarfile.open(archive) as files:
            known[key] = {
                member.name.split("/", 1)[-1]: files.extractfile(member).read()
                for member in files if member.isfile()
            }
    return known[key]


def debian(package, version, into, known={}):
    """HTML files of a package, by their path."""
    key = (package, version)
    if key not in known:
        where = tempfile.mkdtemp(dir=into)
        subprocess.run(["apt-get", "download", "-qq", f"{package}={version}"], cwd=where, check=True, timeout=300)
        archive = next(pathlib.Path(where).glob("*.deb"))
        tar = subprocess.run(["dpkg-deb", "--fsys-tarfile", archive], check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(tar)) as files:
            known[key] = {
                member.name.removeprefix("./"): files.extractfile(member).read()
                for member in files if member.isfile() and member.name.endswith(".html")
            }
    return known[key]


def with_fields(page, noise):
    """The page as an application would make it for one request."""
    def digits(count):
        return f"{noise.getrandbits(4 * count):0{count}x}"

    head = (
        f'<meta name="csrf-token" content="{digits(64)}"><meta name="request-id" content="{digits(32)}">'
        f'<script nonce="{digits(24)}">window.state={{"at":{noise.randint(1790000000000, 1799999999999)},'
        f'"user":"{digits(16)}","cart":{noise.randint(0, 9)}}}</script></head>'
    )
    cards = "".join(
        f'<li class="card" data-id="{10000 + n}"><a href="/p/{10000 + n}">Item {n}</a>'
        f'<span class="price">{noise.randint(5, 999)}.{noise.randint(10, 99)}</span>'
        f'<span class="stock">{noise.randint(0, 500)} left</span>'
        f'<form><input type="hidden" name="t" value="{digits(32)}"></form></li>'
        for n in range(24)
    )
    foot = f"<ul>{cards}</ul><footer>Rendered in {noise.randint(20, 400)} ms</footer></body>"
    return page.replace(b"</head>", head.encode(), 1).replace(b"</body>", foot.encode(), 1)


def main():
    out = pathlib.Path(sys.argv[1])
    missing = 0

    def put(kind, name, old, new):
        if old == new:
            return
        directory = out / kind / name
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "old").write_bytes(old)
        (directory / "new").write_bytes(new)

    pages = {}
    with tempfile.TemporaryDirectory() as into:
        for line in NPM.split("\n"):
            if not line:
                continue
            kind, package, old, new, path = line.split()
            name = f"{package.replace('/', '_').replace('@', '')}-{new}-{pathlib.Path(path).name}"
            try:
                files = [npm(package, version, into)[path] for version in (old, new)]
                put(kind, name, *files)
                pages[pathlib.Path(path).stem] = files[1]
            except Exception as error:
                missing += 1
                print(f"left out: {name}: {error}", file=sys.stderr)
        for package, old, new, directory, stems in DEBIAN:
            for stem in stems.split():
                path = f"{directory}/{stem}.html"
                try:
                    files = [debian(package, version, into)[path] for version in (old, new)]
                    put("html", f"{package}-{new}-{stem.replace('/', '_')}", *files)
                    pages[pathlib.Path(stem).name] = files[1]
                except Exception as error:
                    missing += 1
                    print(f"left out: {path}: {error}", file=sys.stderr)
    noise = random.Random(42)
    for name in PAGES:
        if name in pages:
            put("dyn_fields", name, with_fields(pages[name], noise), with_fields(pages[name], noise))
    pairs = sum(1 for _ in out.glob("*/*/new"))
    print(f"{pairs} pairs in {out}, {missing} left out")
    return 0 if pairs else 1


sys.exit(main())
