#!/bin/bash
# Gathers at least 20,000 clean files that nobody here made, for the proof
# "real clean files stay clean".
#
#   tests/corpus/gather.sh [DIR]          (default /tmp/scan-pipeline-corpus)
#
# Everything comes from the ordinary package clients (apt-get, pip, npm, cargo,
# mvn, go), by package name; a client that is not installed is passed over.
# Archives are kept whole, and unpacked as well, so that the documents inside
# count as files of their own.
#
# Writes DIR/files.txt (one path a line), DIR/summary.txt (counts by extension
# and by source) and DIR/packages.txt (what was fetched, with versions).
# Run again, it fetches only what is missing.  Ends with status 1 when fewer
# than 20,000 files resulted.
set -u
DIR=${1:-/tmp/scan-pipeline-corpus}
MIN=20000
mkdir -p "$DIR" || exit 1
DIR=$(cd "$DIR" && pwd)
DL=$DIR/dl X=$DIR/x DONE=$DIR/done LOG=$DIR/log
mkdir -p "$DL"/{deb,wheel,sdist,npm,crate,jar} "$X"/{deb,wheel,sdist,npm,crate,jar} "$DONE" "$LOG"

DEBS="
 libpython3.11-testsuite pypy3-lib-testsuite libgdata-tests
 libreoffice-common libreoffice-smoketest-data libreoffice-style-colibre
 libreoffice-nlpsolver openclipart-libreoffice calligra-data
 calligra-gemini-data abiword-common gnumeric-doc scribus-data
 homebank-data gnucash-common
 ghostscript-doc graphviz-doc lilypond-doc-pdf r-doc-pdf pari-doc octave-doc
 claws-mail-doc sylpheed-doc texlive-fonts-recommended-doc
 texlive-lang-german texlive-humanities-doc php-tcpdf cups-filters
 debian-handbook debian-reference-en developers-reference maint-guide
 installation-guide-amd64 gnuplot-doc
 forensics-samples-files forensics-samples-multiple jbigkit-testdata
 librsvg2-tests libsdl2-image-tests gimp-data gimp-data-extras
 tango-icon-theme gnome-icon-theme adwaita-icon-theme frozen-bubble-data
 gcompris-qt-data pingus-data neverball-data freedoom desktop-base
 sound-theme-freedesktop sound-icons pocketsphinx-testdata freepats
 sonic-pi-samples openttd-opensfx festvox-kallpc16k
 tex-gyre fonts-lato fonts-dejavu-core fonts-liberation2 fonts-wine
 fonts-noto-color-emoji
 nsis ipxe memtest86+ syslinux-common grub-pc-bin mono-mcs
 libmono-corlib4.5-dll libmono-system-core4.0-cil openjdk-17-demo
 tomcat10-examples
 glibc-source mariadb-test povray-examples libonnx-testdata manpages-de
 mythes-en-us aspell-de libreoffice-l10n-de thunderbird-l10n-de
 webext-ublock-origin-firefox dia-common qelectrotech-examples
 exim4-base mailman3 emacs-common tzdata
"
SDISTS="
 python-docx python-pptx odfpy pypdf pdfminer.six pikepdf img2pdf olefile
 pillow mutagen patool rarfile libarchive-c xlsx2csv icalendar
 fonttools pygments docutils fpdf2 exifread
"
WHEELS="
 numpy scipy pandas matplotlib scikit-image scikit-learn astropy nibabel
 pydicom h5py networkx sympy cryptography cryptography_vectors django babel
 botocore jupyterlab bokeh pymupdf reportlab faker imageio pygame docxtpl
"
WHEELS_WIN="pywin32 pyinstaller psutil lxml setuptools debugpy pillow"
NPMS="
 typescript pdfjs-dist bootstrap @fortawesome/fontawesome-free flag-icons
 @fontsource/roboto @fontsource/noto-sans swagger-ui-dist monaco-editor three
 mathjax katex react vue lodash @types/node xlsx jszip nodemailer mailparser
 tesseract.js sql.js esbuild-wasm @esbuild/win32-x64 @esbuild/linux-arm64
 core-js rxjs date-fns ionicons tinymce jquery video.js
"
CRATES="
 image zip tar calamine lopdf mail-parser mailparse symphonia ttf-parser
 goblin object windows-sys openssl-src bzip2-sys libz-sys zstd-sys
 cab cfb msi encoding_rs syntect regex chrono-tz plotters tiny-skia resvg
 docx-rs umya-spreadsheet printpdf hyper tokio serde
"
JARS="
 org.apache.tika:tika-parsers:1.28.5:jar:tests
 org.apache.commons:commons-compress:1.27.1:jar:tests
 org.apache.james:apache-mime4j-core:0.8.11:jar:tests
 org.apache.poi:poi:5.2.5 org.apache.poi:poi-ooxml-lite:5.2.5
 org.apache.pdfbox:pdfbox:2.0.30 com.google.guava:guava:33.2.1-jre
 org.springframework:spring-core:5.3.39 org.scala-lang:scala-library:2.13.14
 org.bouncycastle:bcprov-jdk18on:1.78.1 com.h2database:h2:2.2.224
 org.apache.lucene:lucene-core:9.11.1 org.webjars:jquery-ui:1.13.2
"
GOMODS="
 github.com/jhillyerd/enmime github.com/xuri/excelize/v2
 github.com/pdfcpu/pdfcpu github.com/gabriel-vasile/mimetype
 github.com/h2non/filetype github.com/bodgit/sevenzip
 github.com/nwaples/rardecode/v2 golang.org/x/image
 github.com/emersion/go-message github.com/klauspost/compress
"
# Installed packages whose files under /usr are listed in place (at most 2,500).
INSTALLED="
 perl-modules-5.36 perl-base coreutils binutils-x86-64-linux-gnu libc6
 libc6-dev libc-bin git python3.11-minimal libpython3.11-stdlib openssl
 gcc-12 cpp-12 tzdata ca-certificates mime-support shared-mime-info
 fonts-dejavu-core libicu72 bash dpkg apt vim-runtime
"

say()  { printf '%s %s\n' "$(date +%T)" "$*"; }
have() { command -v "$1" >/dev/null 2>&1 || { say "no $1 here: passed over"; false; }; }
safe() { printf '%s' "$1" | tr -c 'A-Za-z0-9._+-' '_'; }
# fetched KIND NAME: has it been fetched already?  mark KIND NAME: it has now.
fetched() { [ -e "$DONE/$1-$(safe "$2")" ]; }
mark()    { : > "$DONE/$1-$(safe "$2")"; }
# first FILE...: does the glob match anything?
first() { [ -e "$1" ]; }
# unpack KIND FILE COMMAND...: runs COMMAND in $X/KIND/<file name>, once.
unpack() {
    local kind=$1 file=$2 out; shift 2
    out=$X/$kind/$(basename "$file")
    fetched unpacked "$kind-$(basename "$file")" && return
    rm -rf "$out"; mkdir -p "$out"
    (cd "$out" && "$@") >>"$LOG/unpack" 2>&1 || say "unpacking $(basename "$file"): trouble, see $LOG/unpack"
    chmod -R u+rwX "$out" 2>/dev/null
    mark unpacked "$kind-$(basename "$file")"
}

say "Debian packages"
if have apt-get && have dpkg-deb; then
    for p in $DEBS; do
        fetched deb "$p" && continue
        # One at a time: one that is unknown here must not stop the others.
        (cd "$DL/deb" && apt-get download -q "$p") >>"$LOG/deb" 2>&1 \
            && mark deb "$p" || say "deb $p: not fetched"
    done
    for f in "$DL"/deb/*.deb; do
        first "$f" && unpack deb "$f" dpkg-deb -x "$f" .
    done
fi

say "Python wheels and source distributions"
if have pip; then
    PIP="pip download -q --disable-pip-version-check --no-deps"
    for p in $WHEELS; do
        fetched wheel "$p" && continue
        timeout 120 $PIP --only-binary :all: -d "$DL/wheel" "$p" >>"$LOG/wheel" 2>&1 </dev/null \
            && mark wheel "$p" || say "wheel $p: not fetched"
    done
    for p in $WHEELS_WIN; do
        fetched wheelwin "$p" && continue
        timeout 120 $PIP --only-binary :all: --platform win_amd64 --python-version 3.11 \
            -d "$DL/wheel" "$p" >>"$LOG/wheel" 2>&1 </dev/null \
            && mark wheelwin "$p" || say "wheel $p (Windows): not fetched"
    done
    for p in $SDISTS; do
        fetched sdist "$p" && continue
        timeout 90 $PIP --no-binary :all: -d "$DL/sdist" "$p" >>"$LOG/sdist" 2>&1 </dev/null \
            && mark sdist "$p" || say "sdist $p: not fetched"
    done
    for f in "$DL"/wheel/*.whl; do
        first "$f" && unpack wheel "$f" unzip -qq -o "$f"
    done
    for f in "$DL"/sdist/*.tar.gz; do
        first "$f" && unpack sdist "$f" tar xf "$f"
    done
    for f in "$DL"/sdist/*.zip; do
        first "$f" && unpack sdist "$f" unzip -qq -o "$f"
    done
fi

say "npm packages"
if have npm; then
    for p in $NPMS; do
        fetched npm "$p" && continue
        (cd "$DL/npm" && timeout 120 npm pack --silent "$p") >>"$LOG/npm" 2>&1 </dev/null \
            && mark npm "$p" || say "npm $p: not fetched"
    done
    for f in "$DL"/npm/*.tgz; do
        first "$f" && unpack npm "$f" tar xzf "$f"
    done
fi

say "crates"
if have cargo; then
    if ! fetched crates all; then
        rm -rf "$DIR/cargo-scratch"
        cargo init -q --vcs none --name corpus "$DIR/cargo-scratch" >>"$LOG/crate" 2>&1
        for c in $CRATES; do
            (cd "$DIR/cargo-scratch" && cargo add -q "$c") >>"$LOG/crate" 2>&1 </dev/null \
                || say "crate $c: not added"
        done
        (cd "$DIR/cargo-scratch" && timeout 300 cargo fetch -q) >>"$LOG/crate" 2>&1 \
            && mark crates all || say "cargo fetch: trouble, see $LOG/crate"
        CACHE=${CARGO_HOME:-$HOME/.cargo}/registry/cache
        # Only what this lock file names, not all that lies in the shared cache.
        awk -F'"' '/^name = /{n=$2} /^version = /{print n "-" $2 ".crate"}' \
            "$DIR/cargo-scratch/Cargo.lock" 2>/dev/null | while read -r c; do
            for f in "$CACHE"/*/"$c"; do
                first "$f" && cp -n "$f" "$DL/crate/"
            done
        done
    fi
    for f in "$DL"/crate/*.crate; do
        first "$f" && unpack crate "$f" tar xzf "$f"
    done
fi

say "jars"
if have mvn; then
    for a in $JARS; do
        fetched jar "$a" && continue
        IFS=: read -r g n v t c <<<"$a"
        timeout 180 mvn -q -B dependency:get -Dtransitive=false "-Dartifact=$a" >>"$LOG/jar" 2>&1 </dev/null
        f="$HOME/.m2/repository/${g//.//}/$n/$v/$n-$v${c:+-$c}.${t:-jar}"
        cp "$f" "$DL/jar/" 2>/dev/null && mark jar "$a" || say "jar $a: not fetched"
    done
    for f in "$DL"/jar/*-tests.jar; do
        first "$f" && unpack jar "$f" unzip -qq -o "$f"
    done
fi

say "Go modules"
if have go; then
    mkdir -p "$DIR/go-scratch"
    for m in $GOMODS; do
        fetched go "$m" && continue
        (cd "$DIR/go-scratch" && GOMODCACHE=$DIR/gomod GOFLAGS=-modcacherw \
            timeout 120 go mod download -json "$m@latest") >>"$LOG/go" 2>&1 \
            && mark go "$m" || say "go module $m: not fetched"
    done
fi

say "choosing the files"
: > "$DIR/installed.list"
if command -v dpkg >/dev/null; then
    for p in $INSTALLED; do dpkg -L "$p" 2>/dev/null; done | grep '^/usr/' > "$DIR/installed.list"
fi
python3 - "$DIR" "$MIN" <<'PY'
import collections, hashlib, os, stat, sys
d, least = sys.argv[1], int(sys.argv[2])
CAP_TEXT, CAP_OTHER, CAP_PACKAGE, CAP_INSTALLED = 330, 1500, 1200, 1500
BIGGEST = 200 << 20
BYTES = 12 << 20        # of one package's unpacked files; jars of tests: as many as there are
DOCS_BYTES = 80 << 20   # where those are documents, mails, or archives
WHOLE = 160 << 20       # of one kind's whole packages; jars likewise
TEXT = set("""py pyi h c cc cpp hpp rs go js mjs cjs ts mts cts map html htm
txt md rst json xml css scss svg class po properties test result inc pod pm pl
el java lua toml yml yaml csv sh qml mo gz a elc pb""".split())
DOCS = set("""pdf doc docx docm dot dotx xls xlsx xlsm xlsb ppt pptx pptm odt ods odp odg
ott ots otp sxw rtf epub chm msg eml mbox zip jar 7z rar cab arj lzh tar tgz bz2 xz zst
gif tif tiff webp exe dll""".split())

def candidates():
    for top, source in (("dl", 1), ("x", 1), ("gomod", 0)):
        base = os.path.join(d, top)
        for where, dirs, names in os.walk(base):
            dirs.sort()
            rel = os.path.relpath(where, base).split(os.sep)
            if top == "gomod":
                if rel[:2] == ["cache", "vcs"] or rel[:3] == ["cache", "download", "sumdb"]:
                    dirs[:] = []
                    continue
                src = "go modules, whole" if rel[0] == "cache" else "go modules, unpacked"
                pkg = next((p for p in rel if "@" in p), "-")
            else:
                src = rel[0] + (", whole" if top == "dl" else ", unpacked")
                pkg = "-" if top == "dl" else (rel[1] if len(rel) > 1 else "-")
            for n in names:
                if top == "gomod" and rel[0] == "cache" and not n.endswith(".zip"):
                    continue
                yield os.path.join(where, n), src, src + ("/" + pkg if "unpacked" in src else "")
    with open(os.path.join(d, "installed.list"), errors="surrogateescape") as f:
        for line in f:
            yield line.rstrip("\n"), "installed under /usr", "installed"

found, dropped = [], collections.Counter()
for path, src, pkg in candidates():
    try:
        st = os.lstat(path)
    except OSError:
        continue
    if not stat.S_ISREG(st.st_mode):
        if stat.S_ISLNK(st.st_mode): dropped["symbolic links"] += 1
        continue
    if st.st_size == 0: dropped["empty"] += 1; continue
    if st.st_size > BIGGEST: dropped["over 200 MiB"] += 1; continue
    try: path.encode("utf-8")
    except UnicodeEncodeError: dropped["name not UTF-8"] += 1; continue
    if "\n" in path: dropped["newline in the name"] += 1; continue
    base = os.path.basename(path)
    ext = base.rpartition(".")[2].lower() if "." in base.lstrip(".") else ""
    if not ext.isalnum() or len(ext) > 10 or ext.isdigit(): ext = "(none)"
    found.append((0 if src.endswith("whole") else 1 if ext in DOCS else 2,
                  hashlib.sha1(path[len(d):].encode()).digest(), path, src, pkg, ext, st.st_size))
found.sort()            # whole packages, documents, the rest; each in an order that stays put

seen, by_ext, by_src, by_pkg, pkg_size, size, chosen = set(), collections.Counter(), collections.Counter(), collections.Counter(), collections.Counter(), 0, []
for _, _, path, src, pkg, ext, n in found:
    if src == "installed under /usr":
        cap = CAP_INSTALLED
    else:
        cap = 10**9 if src.endswith("whole") else CAP_PACKAGE
    if by_ext[ext] >= (CAP_TEXT if ext in TEXT else CAP_OTHER): dropped["over the cap for the type"] += 1; continue
    if by_pkg[pkg] >= cap: dropped["over the cap for the package"] += 1; continue
    most = WHOLE if src.endswith("whole") else DOCS_BYTES if ext in DOCS else BYTES
    if not src.startswith("jar") and pkg != "installed" and pkg_size[pkg] + n > most:
        dropped["over the cap for the package's or the kind's bytes"] += 1; continue
    h = hashlib.sha256()
    try:
        with open(path, "rb") as f:
            while b := f.read(1 << 20): h.update(b)
    except OSError:
        dropped["unreadable"] += 1; continue
    if h.digest() in seen: dropped["same content"] += 1; continue
    seen.add(h.digest())
    by_ext[ext] += 1; by_src[src] += 1; by_pkg[pkg] += 1; pkg_size[pkg] += n; size += n
    chosen.append(path)
chosen.sort()
with open(os.path.join(d, "files.txt"), "w") as f:
    f.writelines(p + "\n" for p in chosen)
with open(os.path.join(d, "packages.txt"), "w") as f:
    for k in sorted(os.listdir(os.path.join(d, "dl"))):
        for n in sorted(os.listdir(os.path.join(d, "dl", k))): f.write(f"{k}\t{n}\n")
    g = os.path.join(d, "gomod", "cache", "download")
    for where, _, names in sorted(os.walk(g)):
        for n in sorted(names):
            if n.endswith(".zip"): f.write(f"go\t{os.path.relpath(os.path.join(where, n), g)}\n")
with open(os.path.join(d, "summary.txt"), "w") as f:
    f.write(f"{len(chosen)} files, {size} bytes\n\nby source:\n")
    for k, n in by_src.most_common(): f.write(f"{n:8} {k}\n")
    f.write("\nby extension:\n")
    for k, n in by_ext.most_common(): f.write(f"{n:8} {k}\n")
    f.write("\nleft out:\n")
    for k, n in dropped.most_common(): f.write(f"{n:8} {k}\n")
top = by_ext.most_common(1)[0] if by_ext else ("-", 0)
print(f"{len(chosen)} files, {size / 1e9:.2f} GB; the commonest type is {top[0]} with {top[1]}")
if len(chosen) < least:
    sys.exit(f"gather.sh: only {len(chosen)} files, fewer than {least}: see above for what could not be fetched")
PY
status=$?
say "files.txt, summary.txt and packages.txt are in $DIR"
exit $status
