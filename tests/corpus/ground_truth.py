#!/usr/bin/env python3
"""What is the matter with the files of the corpus, without asking ClamAV.

    ground_truth.py [DIR/files.txt]     (default /tmp/scan-pipeline-corpus)

Prints `path<TAB>what` lines, where `what` starts with one of

    encrypted:  needs a password (or is enciphered with a known one)
    corrupt:    truncated or damaged, says the format's own checker
    damaged:    readable, with complaints from the checker (PDF only)
    unopened:   an archive format or method that ClamAV does not unpack
    large:      over 100 MB, or unpacks to over 400 MB
    marker:     carries the EICAR test string in the clear

`in MEMBER: ...` stands before it where the trouble lies inside an archive or
a mail.  Needs nothing but Python and the commands 7z and qpdf.  Cheap checks:
attachments of PDFs and objects inside OLE2 files are not looked into.
"""
import bz2, collections, email, gzip, hashlib, io, lzma, os, re, struct
import subprocess, sys, tarfile, tempfile, zipfile, zlib

MB = 1 << 20
LARGE, UNPACKED, MEMBER, DEPTH, LINES = 100 * MB, 400 * MB, 64 * MB, 4, 12
EICAR = b"X5O!P%@AP[4" + rb"\PZX54(P^)7CC)7}$EICAR"
TMP = tempfile.mkdtemp(prefix="ground-truth-")
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
UNOPENED = [  # (offset, magic, name)
    (0, b"\x28\xb5\x2f\xfd", "zstd"), (0, b"\x04\x22\x4d\x18", "lz4"),
    (0, b"\x02\x21\x4c\x18", "lz4, legacy"), (0, b"\xed\xab\xee\xdb", "rpm"),
    (0, b"!<arch>\n", "ar"), (0, b"\x1f\x9d", "compress (.Z)"),
    (0, b"LZIP", "lzip"), (0, b"\x89LZO\0", "lzop"), (0, b"hsqs", "squashfs"),
    (0, b"MSWIM\0\0\0", "wim"), (7, b"**ACE**", "ace"), (0, b"ZOO ", "zoo"),
    (0, b"\xff\x06\0\0sNaPpY", "snappy"), (0, b"\xca\xfe\xd0\x0d", "pack200"),
    (0, b"\x1f\xa0", "SCO compress -H"), (0, b"\x1f\x1e", "pack (.z)"),
]
UNOPENED_EXT = {"lzma": "lzma alone", "br": "brotli", "arc": "arc", "zpaq": "zpaq",
                "lrz": "lrzip", "rz": "rzip", "shn": "shorten", "dms": "dms"}
# The zip methods that ClamAV unpacks: stored, imploded, deflate, deflate64, bzip2.
ZIP_METHODS = {0, 6, 8, 9, 12}


def run(cmd, timeout=60):
    try:
        p = subprocess.run(cmd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, timeout=timeout)
        return p.returncode, p.stdout.decode("utf-8", "replace")
    except subprocess.TimeoutExpired:
        return 0, ""


def one(e):
    return re.sub(r"\s+", " ", f"{type(e).__name__}: {e}" if isinstance(e, Exception) else e)[:160]


def on_disk(data):
    path = os.path.join(TMP, "file")
    with open(path, "wb") as f:
        f.write(data)
    return path


def seven(data, kind, depth):
    path = on_disk(data)
    rc, out = run(["7z", "l", "-slt", "-pwrong", path])
    if "Encrypted = +" in out or "encrypted archive" in out or "Wrong password" in out:
        yield f"encrypted: {kind}"
        return
    methods = {m for line in re.findall(r"^Method = (.*)$", out, re.M) for m in line.split()}
    odd = [m for m in sorted(methods) if kind == "7z"
           and not re.match(r"(LZMA2?|BCJ2?|Copy|Delta|PPMD|ARM|ARMT|PPC|SPARC|IA64|ARM64)\b", m)]
    if odd:
        yield f"unopened: 7z with the method {' '.join(odd)}"
    rc, out = run(["7z", "t", "-pwrong", path])
    if rc not in (0, 1):
        bad = [l for l in out.splitlines() if re.search(r"error|headers|unexpected|unsupported|can.?not|open", l, re.I)
               and "Path" not in l and "Scanning" not in l and l.strip() not in ("ERRORS:", "Errors: 1")
               and not l.startswith(("Open", "7-Zip"))]
        why = next((l for l in bad if re.search(r"unsupported|data error|unexpected|headers error|can not open|crc", l, re.I)),
                   (bad or [f"status {rc}"])[0])
        yield f"corrupt: {kind}: 7z t: {one(why.replace(path, 'it'))}"


def zipped(data, depth):
    try:
        z = zipfile.ZipFile(io.BytesIO(data))
        infos = z.infolist()
    except Exception as e:
        yield f"corrupt: zip: {one(e)}"
        return
    # Method 99 is WinZip's AES; 0x636b and 0x636c are those of a locked iWork file.
    locked = [i.filename for i in infos if i.flag_bits & 1 or i.compress_type in (99, 0x636b, 0x636c)]
    if locked:
        yield f"encrypted: zip ({len(locked)} of {len(infos)} members)"
    odd = sorted({i.compress_type for i in infos if i.compress_type not in ZIP_METHODS | {99, 0x636b, 0x636c}})
    if odd:
        yield f"unopened: zip with the method {' '.join(map(str, odd))}"
    total = sum(i.file_size for i in infos)
    if total > UNPACKED:
        yield f"large: zip that unpacks to {total // MB} MB"
    for i in infos:
        if i.flag_bits & 1 or i.compress_type not in (0, 8, 12, 14) or i.is_dir():
            continue
        try:
            if i.file_size > MEMBER:
                with z.open(i) as f:
                    while f.read(MB):
                        pass
                continue
            inner = z.read(i)
        except Exception as e:
            yield f"corrupt: zip member {i.filename}: {one(e)}"
            continue
        if i.filename == "META-INF/manifest.xml" and b"encryption-data" in inner:
            yield "encrypted: OpenDocument"
        if i.filename == "META-INF/encryption.xml" and b"EncryptedData" in inner:
            yield "encrypted: epub (parts of it)"
        for w in nested(inner, i.filename, depth):
            yield w


def tarred(data, depth):
    try:
        t = tarfile.open(fileobj=io.BytesIO(data), mode="r:")
        for m in t:
            if not m.isfile():
                continue
            if m.offset_data + m.size > len(data) and not m.sparse:
                yield f"corrupt: tar: truncated in {m.name}"
                continue
            if m.size <= MEMBER:
                for w in nested(t.extractfile(m).read(), m.name, depth):
                    yield w
    except Exception as e:
        yield f"corrupt: tar: {one(e)}"


def stream(data, kind, depth):
    opener = {"gzip": gzip.GzipFile, "bzip2": bz2.BZ2File, "xz": lzma.LZMAFile}[kind]
    out = bytearray()
    try:
        f = opener(fileobj=io.BytesIO(data)) if kind == "gzip" else opener(io.BytesIO(data))
        while True:
            b = f.read(MB)
            if not b:
                break
            out += b
            if len(out) > UNPACKED:
                yield f"large: {kind} that unpacks to over {UNPACKED // MB} MB"
                return
    except Exception as e:
        yield f"corrupt: {kind}: {one(e)}"
    for w in nested(bytes(out), "(unpacked)", depth):
        yield w


def rar(data):
    if data[:8] == b"Rar!\x1a\x07\x01\0":
        def vint(p):
            v = s = 0
            while True:
                b = data[p]; p += 1
                v |= (b & 127) << s; s += 7
                if not b & 128:
                    return v, p
        p = 8
        try:
            while p < len(data):
                p += 4
                size, p = vint(p); end = p + size
                kind, q = vint(p); flags, q = vint(q)
                extra = body = 0
                if flags & 1: extra, q = vint(q)
                if flags & 2: body, q = vint(q)
                if kind == 4:
                    yield "encrypted: rar, names and all"; return
                if extra and kind in (2, 3):
                    e = end - extra
                    while e < end:
                        n, r = vint(e)
                        t, _ = vint(r)
                        if kind == 2 and t == 1:
                            yield "encrypted: rar"; return
                        e = r + n
                if kind == 5: return
                p = end + body
            yield "corrupt: rar: no end block" if p == len(data) else "corrupt: rar: truncated"
        except IndexError:
            yield "corrupt: rar: truncated"
        return
    p = 7
    ended = False
    while p + 7 <= len(data):
        _, kind, flags, size = struct.unpack_from("<HBHH", data, p)
        if size < 7 or not 0x72 <= kind <= 0x7b:
            yield "corrupt: rar: bad block"; return
        if kind == 0x73 and flags & 0x80:
            yield "encrypted: rar, names and all"; return
        if kind == 0x74 and flags & 4:
            yield "encrypted: rar"; return
        if kind == 0x7b:
            ended = True; break
        add = 0
        if flags & 0x8000 or kind in (0x74, 0x7a):
            if p + 11 > len(data): break
            add = struct.unpack_from("<I", data, p + 7)[0]
            if kind in (0x74, 0x7a) and flags & 0x100 and p + 36 <= len(data):
                add |= struct.unpack_from("<I", data, p + 32)[0] << 32
        p += size + add
    if p > len(data):
        yield "corrupt: rar: truncated"


class Ole:
    """Just enough of a compound file to read its streams."""
    def __init__(self, d):
        self.d = d
        self.ss = 1 << struct.unpack_from("<H", d, 30)[0]
        self.ms = 1 << struct.unpack_from("<H", d, 32)[0]
        if not 64 <= self.ss <= 65536 or self.ms > self.ss:
            raise ValueError("sector size")
        nfat, = struct.unpack_from("<I", d, 44)
        dirs, = struct.unpack_from("<I", d, 48)
        self.cut, minifat, _, difat, ndifat = struct.unpack_from("<5I", d, 56)
        fats = [x for x in struct.unpack_from("<109I", d, 76) if x < 0xfffffffa]
        for _ in range(min(ndifat, 10000)):
            if difat >= 0xfffffffa: break
            s = self.sector(difat)
            n = struct.unpack(f"<{len(s) // 4}I", s)
            fats += [x for x in n[:-1] if x < 0xfffffffa]
            difat = n[-1]
        self.fat = []
        for x in fats[:nfat]:
            s = self.sector(x)
            self.fat += struct.unpack(f"<{len(s) // 4}I", s)
        raw = self.chain(dirs)
        self.entries = {}
        root = None
        for p in range(0, len(raw) - 127, 128):
            n, kind = struct.unpack_from("<HB", raw, p + 64)
            if kind not in (1, 2, 5): continue
            name = raw[p:p + max(0, min(n, 64) - 2)].decode("utf-16le", "replace")
            start, size = struct.unpack_from("<II", raw, p + 116)
            if kind == 5: root = (start, size)
            elif kind == 2: self.entries.setdefault(name, (start, size))
            else: self.entries.setdefault(name + "/", (start, 0))
        mf = self.chain(minifat) if minifat < 0xfffffffa else b""
        self.minifat = struct.unpack(f"<{len(mf) // 4}I", mf[:len(mf) // 4 * 4])
        self.mini = self.chain(root[0]) if root and root[0] < 0xfffffffa else b""

    def sector(self, n):
        s = self.d[(n + 1) * self.ss:(n + 2) * self.ss]
        if not s:
            raise ValueError("sector past the end")
        return s + bytes(self.ss - len(s))

    def chain(self, n):
        out, seen = [], 0
        while n < 0xfffffffa:
            out.append(self.sector(n))
            seen += 1
            if n >= len(self.fat) or seen > len(self.fat):
                raise ValueError("sector chain")
            n = self.fat[n]
        return b"".join(out)

    def read(self, name):
        start, size = self.entries[name]
        if size >= self.cut:
            return self.chain(start)[:size]
        out = b""
        while start < 0xfffffffa and len(out) < size:
            out += self.mini[start * self.ms:(start + 1) * self.ms]
            if start >= len(self.minifat):
                raise ValueError("mini sector chain")
            start = self.minifat[start]
        return out[:size]


def ole(data):
    try:
        o = Ole(data)
        names = o.entries
        if "EncryptedPackage" in names:
            yield "encrypted: OOXML in OLE2"
        if "WordDocument" in names:
            s = o.read("WordDocument")
            if len(s) > 12 and struct.unpack_from("<H", s, 10)[0] & 0x100:
                yield "encrypted: Word"
        for n in ("Workbook", "Book"):
            if n in names:
                s, p = o.read(n), 0
                for _ in range(400):
                    if p + 4 > len(s): break
                    rec, size = struct.unpack_from("<HH", s, p)
                    if rec == 0x2f:
                        yield "encrypted: Excel"; break
                    if rec == 0x0a: break
                    p += 4 + size
        if "EncryptedSummary" in names or ("Current User" in names
                and o.read("Current User")[12:16] == b"\xdf\xc4\xd1\xf3"):
            yield "encrypted: PowerPoint"
        for n, (start, size) in names.items():
            if size and not n.endswith("/"): o.read(n)
    except Exception as e:
        yield f"corrupt: OLE2: {one(e)}"


def pdf(data):
    rc, out = run(["qpdf", "--check", on_disk(data)], 60)
    bad = [l for l in out.splitlines() if re.match(r"(WARNING|ERROR|qpdf)?:?.*: ", l) and "File is not" not in l
           and not re.match(r"(R = |P = |User pass|Supplied|extract|print|modify|stream|string|file enc|PDF Version)", l)]
    msg = one((bad or [f"status {rc}"])[0].replace(os.path.join(TMP, "file"), "it"))
    if "invalid password" in out:
        yield "encrypted: PDF that needs a password"
    elif rc == 2:
        yield f"corrupt: PDF: {msg}"
    else:
        if re.search(r"^R = \d", out, re.M):
            yield "encrypted: PDF that opens without a password"
        if rc == 3:
            yield f"damaged: PDF: {msg}"


def png(d):
    p = 8
    while p + 12 <= len(d):
        n, t = struct.unpack_from(">I4s", d, p)
        if p + 12 + n > len(d): break
        if struct.unpack_from(">I", d, p + 8 + n)[0] != zlib.crc32(d[p + 4:p + 8 + n]):
            yield f"corrupt: PNG: checksum of {t.decode('latin-1')}"; return
        p += 12 + n
        if t == b"IEND": return
    yield "corrupt: PNG: truncated"


def jpeg(d):
    if b"\xff\xd9" not in d[-65536:]:
        yield "corrupt: JPEG: no end marker"


def gif(d):
    try:
        p = 13 + (3 << (d[10] & 7) + 1 if d[10] & 128 else 0)
        while True:
            if d[p] == 0x3b: return
            if d[p] == 0x21: p += 2
            elif d[p] == 0x2c: p += 11 + (3 << (d[p + 9] & 7) + 1 if d[p + 9] & 128 else 0)
            else:
                yield "corrupt: GIF: bad block"; return
            while d[p]: p += d[p] + 1
            p += 1
    except IndexError:
        yield "corrupt: GIF: truncated"


def tiff(d):
    e = "<" if d[:2] == b"II" else ">"
    p, seen = struct.unpack_from(e + "I", d, 4)[0], set()
    while p:
        if p in seen:
            yield "corrupt: TIFF: directories in a ring"; return
        seen.add(p)
        if p + 2 > len(d):
            yield "corrupt: TIFF: directory past the end"; return
        n, = struct.unpack_from(e + "H", d, p)
        if p + 6 + n * 12 > len(d):
            yield "corrupt: TIFF: directory past the end"; return
        p, = struct.unpack_from(e + "I", d, p + 2 + n * 12)


def elf(d):
    e = "<" if d[5:6] == b"\1" else ">"
    try:
        if d[4] == 2:
            off, = struct.unpack_from(e + "Q", d, 40); size, n = struct.unpack_from(e + "HH", d, 58)
        else:
            off, = struct.unpack_from(e + "I", d, 32); size, n = struct.unpack_from(e + "HH", d, 46)
        if off and off + size * n > len(d):
            yield "corrupt: ELF: section table past the end"
    except (struct.error, IndexError):
        yield "corrupt: ELF: truncated"


def pe(d):
    if len(d) < 64: return
    p, = struct.unpack_from("<I", d, 60)
    if d[p:p + 4] != b"PE\0\0": return
    try:
        n, = struct.unpack_from("<H", d, p + 6); opt, = struct.unpack_from("<H", d, p + 20)
        for i in range(n):
            size, off = struct.unpack_from("<II", d, p + 24 + opt + i * 40 + 16)
            if size and off + size > len(d):
                yield "corrupt: PE: section past the end"; return
    except struct.error:
        yield "corrupt: PE: truncated"


MAIL = re.compile(rb"(From |From:|Return-Path:|Received:|Message-I[Dd]:|M[Ii][Mm][Ee]-Version:|Date:|Subject:|To:|X-[\w-]+:|Delivered-To:|Content-Type:)[^\n]*\n", re.I)


def mail(data, depth):
    parts = re.split(rb"(?m)^From [^\n]*\d{4}\r?$", data) if data.startswith(b"From ") else [data]
    for m in parts[:500]:
        try:
            msg = email.message_from_bytes(m.lstrip())
            for part in msg.walk():
                if part.is_multipart(): continue
                body = part.get_payload(decode=True)
                if body:
                    for w in nested(body, part.get_filename() or part.get_content_type(), depth):
                        yield w
        except Exception:
            continue        # a mail that Python cannot read says nothing


def nested(data, name, depth):
    if depth < DEPTH:
        for w in check(data, name, depth + 1):
            yield f"in {name}: {w}"


memo = {}


def check(data, name, depth=0):
    # The depth counts only where it cuts the look inside short.
    key = (hashlib.sha256(data).digest(), os.path.splitext(name)[1].lower(), max(depth, DEPTH - 2))
    if key not in memo:
        out = []
        try:
            for w in look(data, name, depth):
                if w not in out:
                    out.append(w)
        except Exception as e:
            out.append(f"corrupt: the check itself failed: {one(e)}")
        memo[key] = out
    return memo[key]


def look(d, name, depth):
    ext = name.rpartition(".")[2].lower()
    if len(d) > LARGE:
        yield f"large: {len(d) // MB} MB"
    if EICAR in d:
        yield "marker: the EICAR string"
    for off, magic, kind in UNOPENED:
        if d[off:off + len(magic)] == magic:
            yield f"unopened: {kind}"
            return
    if ext in UNOPENED_EXT and not d[:64].isascii():
        yield f"unopened: {UNOPENED_EXT[ext]}"
        return
    if d[:4] in (b"PK\3\4", b"PK\5\6"):
        yield from zipped(d, depth)
    elif d[:3] == b"\x1f\x8b\x08": yield from stream(d, "gzip", depth)
    elif d[:3] == b"BZh" and d[4:10] in (b"1AY&SY", b"\x17rE8P\x90"): yield from stream(d, "bzip2", depth)
    elif d[:6] == b"\xfd7zXZ\0": yield from stream(d, "xz", depth)
    elif d[257:262] == b"ustar": yield from tarred(d, depth)
    elif d[:6] == b"7z\xbc\xaf\x27\x1c": yield from seven(d, "7z", depth)
    elif d[:4] == b"Rar!": yield from rar(d)
    elif d[:4] == b"MSCF": yield from seven(d, "cab", depth)
    elif d[:4] == b"ITSF": yield from seven(d, "chm", depth)
    elif d[:2] == b"\x60\xea" and ext == "arj": yield from seven(d, "arj", depth)
    elif d[2:5] == b"-lh" and d[6:7] == b"-": yield from seven(d, "lzh", depth)
    elif d[:6] in (b"070701", b"070702", b"070707"): yield from seven(d, "cpio", depth)
    elif d[32769:32774] == b"CD001": yield from seven(d, "iso9660", depth)
    elif d[:8] == OLE: yield from ole(d)
    elif re.search(rb"(?:\A|[\r\n])\s*%PDF-", d[:1024]): yield from pdf(d)
    elif d[:8] == b"\x89PNG\r\n\x1a\n": yield from png(d)
    elif d[:3] == b"\xff\xd8\xff": yield from jpeg(d)
    elif d[:6] in (b"GIF87a", b"GIF89a"): yield from gif(d)
    elif d[:4] in (b"II*\0", b"MM\0*") and d[128:132] != b"DICM": yield from tiff(d)
    elif d[:4] == b"\x7fELF": yield from elf(d)
    elif d[:2] == b"MZ": yield from pe(d)
    elif MAIL.match(d.lstrip()[:400]) and re.search(rb"\n(content-|mime-|subject:)", d[:20000], re.I):
        yield from mail(d, depth)
    elif ext in ("jar", "zip", "whl", "epub", "docx", "xlsx", "pptx") and zipfile.is_zipfile(io.BytesIO(d)):
        yield from zipped(d, depth)
    elif ext in ("zip", "jar", "whl", "docx", "xlsx", "pptx", "odt", "ods", "odp", "epub", "gz", "tgz",
                 "bz2", "xz", "7z", "rar", "cab", "doc", "xls", "ppt", "pdf", "png", "jpg", "gif", "tif") \
            and not d[:256].isascii():
        yield f"corrupt: not what its name .{ext} says"


def main():
    listing = sys.argv[1] if len(sys.argv) > 1 else "/tmp/scan-pipeline-corpus/files.txt"
    with open(listing) as f:
        paths = f.read().splitlines()
    totals = collections.Counter()
    for i, path in enumerate(paths):
        if i % 2000 == 0:
            print(f"{i} of {len(paths)}", file=sys.stderr)
        try:
            with open(path, "rb") as f:
                data = f.read()
        except OSError as e:
            print(f"{path}\tcorrupt: unreadable: {one(e)}")
            continue
        found = check(data, os.path.basename(path))
        order = ("encrypted:", "large:", "marker:", "corrupt:", "unopened:", "damaged:")
        found = sorted(found, key=lambda w: next((i for i, k in enumerate(order) if k in w), 9))
        for w in found[:LINES]:
            print(f"{path}\t{one(w)}")
        if len(found) > LINES:
            print(f"{path}\t(and {len(found) - LINES} more)")
        for k in {re.sub(r"^(in .*?: )*(?=(encrypted|corrupt|damaged|unopened|large|marker):)", "", w).split(":")[0]
                  + (", inside" if w.startswith("in ") else "") for w in found}:
            totals[k] += 1
    for k, n in sorted(totals.items()):
        print(f"{n:6} files {k}", file=sys.stderr)
    subprocess.run(["rm", "-rf", TMP])


if __name__ == "__main__":
    main()
