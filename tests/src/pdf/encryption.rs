//! The standard security handler of PDF (ISO 32000, 7.6), as far as the fixtures need it.

use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};
use md5::{Digest as _, Md5};
use sha2::{Sha256, Sha384, Sha512};

use crate::marker::{filler, hex};

/// How a document is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    /// RC4 with 40 bits (V 1, R 2).
    Rc4Bits40,
    /// RC4 with 128 bits (V 2, R 3).
    Rc4Bits128,
    /// AES-128 (V 4, R 4).
    Aes128,
    /// AES-256 as Acrobat 9 had it (V 5, R 5).
    Aes256R5,
    /// AES-256 as PDF 2.0 has it (V 5, R 6).
    Aes256,
}

impl Cipher {
    /// Every cipher, for tests that walk them.
    pub const ALL: [Self; 5] = [Self::Rc4Bits40, Self::Rc4Bits128, Self::Aes128, Self::Aes256R5, Self::Aes256];
}

/// The keys of one document.
#[derive(Clone, Debug)]
pub struct Lock {
    cipher: Cipher,
    id: Vec<u8>,
    key: Vec<u8>,
    owner: Vec<u8>,
    user: Vec<u8>,
    /// `/OE`, `/UE` and `/Perms`, which exist for AES-256 only.
    wrapped: Option<[Vec<u8>; 3]>,
}

/// Everything is allowed but to change the document; the unused bits are one.
const PERMISSIONS: i32 = -44;

const PADDING: [u8; 32] = [
    0x28, 0xbf, 0x4e, 0x5e, 0x4e, 0x75, 0x8a, 0x41, 0x64, 0x00, 0x4e, 0x56, 0xff, 0xfa, 0x01, 0x08, 0x2e, 0x2e, 0x00,
    0xb6, 0xd0, 0x68, 0x3e, 0x80, 0x2f, 0x0c, 0xa9, 0xfe, 0x64, 0x53, 0x69, 0x7a,
];

impl Lock {
    /// Derives the keys from the passwords.
    pub fn new(cipher: Cipher, user: &str, owner: &str) -> Self {
        let id = filler(16, 51);
        match cipher {
            Cipher::Aes256R5 | Cipher::Aes256 => Self::aes256(cipher, id, user.as_bytes(), owner.as_bytes()),
            _ => Self::older(cipher, id, user.as_bytes(), owner.as_bytes()),
        }
    }

    /// The file identifier that the keys depend on: it has to stand in the trailer.
    pub fn id(&self) -> &[u8] {
        &self.id
    }

    /// The `/Encrypt` dictionary.
    pub fn dictionary(&self) -> String {
        let (owner, user) = (hex(&self.owner), hex(&self.user));
        let filter = |method: &str| {
            format!("/CF << /StdCF << /CFM /{method} /AuthEvent /DocOpen >> >> /StmF /StdCF /StrF /StdCF")
        };
        let specific = match self.cipher {
            Cipher::Rc4Bits40 => "/V 1 /R 2 /Length 40".to_owned(),
            Cipher::Rc4Bits128 => "/V 2 /R 3 /Length 128".to_owned(),
            Cipher::Aes128 => format!("/V 4 /R 4 /Length 128 {}", filter("AESV2")),
            Cipher::Aes256R5 => format!("/V 5 /R 5 /Length 256 {}", filter("AESV3")),
            Cipher::Aes256 => format!("/V 5 /R 6 /Length 256 {}", filter("AESV3")),
        };
        let wrapped = self.wrapped.as_ref().map_or(String::new(), |[owner_key, user_key, permissions]| {
            format!("/OE <{}> /UE <{}> /Perms <{}>", hex(owner_key), hex(user_key), hex(permissions))
        });
        format!("<< /Filter /Standard {specific} /P {PERMISSIONS} /O <{owner}> /U <{user}> {wrapped} >>")
    }

    /// Encrypts a string or a stream of object `number`, generation 0.
    pub fn encrypt(&self, number: u32, data: &[u8]) -> Vec<u8> {
        let mut salted = [&self.key[..], &number.to_le_bytes()[..3], &[0, 0]].concat();
        let length = (self.key.len() + 5).min(16);
        let iv = filler(16, u64::from(number) + 60);
        match self.cipher {
            Cipher::Rc4Bits40 | Cipher::Rc4Bits128 => rc4(&Md5::digest(&salted)[..length], data),
            Cipher::Aes128 => {
                salted.extend_from_slice(b"sAlT");
                let key = Md5::digest(&salted);
                let body = cbc(&key[..length], &iv, &pad(data));
                [iv, body].concat()
            }
            Cipher::Aes256R5 | Cipher::Aes256 => {
                let body = cbc(&self.key, &iv, &pad(data));
                [iv, body].concat()
            }
        }
    }

    /// Algorithms 2 to 5.
    fn older(cipher: Cipher, id: Vec<u8>, user: &[u8], owner: &[u8]) -> Self {
        let (length, rounds) = if cipher == Cipher::Rc4Bits40 { (5, 0) } else { (16, 50) };
        let strengthen = |mut hash: Vec<u8>| {
            for _ in 0..rounds {
                hash = Md5::digest(&hash[..length]).to_vec();
            }
            hash.truncate(length);
            hash
        };
        // From revision 3 on, RC4 runs twenty times, with the number of the round mixed into the key.
        let scramble = |key: &[u8], data: &[u8]| {
            let rounds = if cipher == Cipher::Rc4Bits40 { 0..=0 } else { 0..=19_u8 };
            rounds.fold(data.to_vec(), |data, round| {
                let key: Vec<u8> = key.iter().map(|byte| byte ^ round).collect();
                rc4(&key, &data)
            })
        };
        let padded = |password: &[u8]| [password, &PADDING[..]].concat()[..32].to_vec();
        let owner_key = strengthen(Md5::digest(padded(owner)).to_vec());
        let owner = scramble(&owner_key, &padded(user));
        let seed = [&padded(user)[..], &owner, &PERMISSIONS.to_le_bytes(), &id].concat();
        let key = strengthen(Md5::digest(seed).to_vec());
        let user = if cipher == Cipher::Rc4Bits40 {
            rc4(&key, &PADDING)
        } else {
            let hash = Md5::digest([&PADDING[..], &id].concat());
            [scramble(&key, &hash), vec![0; 16]].concat()
        };
        Self { cipher, id, key, owner, user, wrapped: None }
    }

    /// Algorithms 8 to 10.
    fn aes256(cipher: Cipher, id: Vec<u8>, user: &[u8], owner: &[u8]) -> Self {
        let key = filler(32, 52);
        let hash = |password: &[u8], salt: &[u8], user: &[u8]| match cipher {
            Cipher::Aes256R5 => Sha256::digest([password, salt, user].concat()).to_vec(),
            _ => hardened(password, salt, user),
        };
        let entry = |password: &[u8], seed, user: &[u8]| {
            let (check, wrap) = (filler(8, seed), filler(8, seed + 1));
            // filler begins with the same eight bytes: take others, salts should differ.
            let (check, wrap) = (hash(b"", &check, b"check")[..8].to_vec(), hash(b"", &wrap, b"wrap")[..8].to_vec());
            let stored = [hash(password, &check, user), check, wrap.clone()].concat();
            let wrapped = cbc(&hash(password, &wrap, user), &[0; 16], &key);
            (stored, wrapped)
        };
        let (user, user_key) = entry(user, 53, b"");
        let (owner, owner_key) = entry(owner, 55, &user);
        let mut permissions = [&PERMISSIONS.to_le_bytes()[..], &[0xff; 4], b"Tadb"].concat();
        permissions.extend_from_slice(&[1, 2, 3, 4]);
        let permissions = cbc(&key, &[0; 16], &permissions); // one block, so ECB
        Self { cipher, id, key, owner, user, wrapped: Some([owner_key, user_key, permissions]) }
    }
}

/// Algorithm 2.B: the slow hash of revision 6.
fn hardened(password: &[u8], salt: &[u8], user: &[u8]) -> Vec<u8> {
    let mut key = Sha256::digest([password, salt, user].concat()).to_vec();
    let mut round = 0;
    loop {
        let repeated = [password, &key, user].concat().repeat(64);
        let encrypted = cbc(&key[..16], &key[16..32], &repeated);
        let remainder: u32 = encrypted[..16].iter().map(|&byte| u32::from(byte)).sum();
        key = match remainder % 3 {
            0 => Sha256::digest(&encrypted).to_vec(),
            1 => Sha384::digest(&encrypted).to_vec(),
            _ => Sha512::digest(&encrypted).to_vec(),
        };
        round += 1;
        let last = encrypted.last().copied().unwrap_or_default();
        if round >= 64 && u32::from(last) <= round - 32 {
            key.truncate(32);
            return key;
        }
    }
}

fn rc4(key: &[u8], data: &[u8]) -> Vec<u8> {
    let mut state: Vec<u8> = (0..=255).collect();
    let mut j = 0_u8;
    for i in 0..256 {
        j = j.wrapping_add(state[i]).wrapping_add(key[i % key.len()]);
        state.swap(i, usize::from(j));
    }
    let (mut i, mut j) = (0_u8, 0_u8);
    data.iter()
        .map(|byte| {
            i = i.wrapping_add(1);
            j = j.wrapping_add(state[usize::from(i)]);
            state.swap(usize::from(i), usize::from(j));
            byte ^ state[usize::from(state[usize::from(i)].wrapping_add(state[usize::from(j)]))]
        })
        .collect()
}

/// Encrypts one block in place.
type EncryptBlock = Box<dyn Fn(&mut [u8; 16])>;

/// AES in CBC mode on whole blocks.
fn cbc(key: &[u8], iv: &[u8], data: &[u8]) -> Vec<u8> {
    let encrypt: EncryptBlock = if key.len() == 16 {
        let cipher = aes::Aes128::new_from_slice(key).expect("16 bytes");
        Box::new(move |block| cipher.encrypt_block(block.into()))
    } else {
        let cipher = aes::Aes256::new_from_slice(key).expect("32 bytes");
        Box::new(move |block| cipher.encrypt_block(block.into()))
    };
    let mut last: [u8; 16] = iv.try_into().expect("16 bytes");
    let mut out = Vec::with_capacity(data.len());
    for block in data.chunks_exact(16) {
        for (byte, plain) in last.iter_mut().zip(block) {
            *byte ^= plain;
        }
        encrypt(&mut last);
        out.extend_from_slice(&last);
    }
    out
}

/// PKCS #7 padding to whole AES blocks.
fn pad(data: &[u8]) -> Vec<u8> {
    let missing = 16 - data.len() % 16;
    [data, &vec![missing as u8; missing]].concat()
}
