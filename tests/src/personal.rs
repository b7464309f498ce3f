//! Data that looks like somebody's and is nobody's, made at run time: nothing that a detector finds lies in the
//! repository.

/// A text with sensitive data, and what of it must appear nowhere else.
#[derive(Debug, Clone)]
pub struct Letter {
    /// The text.
    pub text: String,
    /// The raw values, in the forms in which they could leak.
    pub raw: Vec<String>,
}

impl Letter {
    /// One with a social security number, a card, an AWS access key and an e-mail address, each labelled. Another number
    /// gives others.
    pub fn new(number: u32) -> Self {
        let (ssn, card, key, email) = (ssn(number), card(number), aws_access_key(number), email(number));
        let text = format!(
            "Dear Sir or Madam,\nthe applicant's SSN: {ssn} was checked.\nPaid by credit card: {card} in April.\n\
             Mail to {email} please.\naws_access_key_id = {key}\nYours faithfully\n"
        );
        let local = email.split('@').next().unwrap_or_default().to_owned();
        let raw = vec![bare(&ssn), ssn, bare(&card), card, key, email, local];
        Self { text, raw }
    }

    /// Which of the raw values the bytes hold, in ASCII or in UTF-16 of either order.
    pub fn leaks(&self, bytes: &[u8]) -> Vec<&str> {
        let holds = |part: &[u8]| !part.is_empty() && bytes.windows(part.len()).any(|window| window == part);
        let wide = |text: &str, order: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(order).collect::<Vec<u8>>();
        let leaked = |raw: &&String| {
            holds(raw.as_bytes()) || holds(&wide(raw, u16::to_le_bytes)) || holds(&wide(raw, u16::to_be_bytes))
        };
        self.raw.iter().filter(leaked).map(String::as_str).collect()
    }
}

/// The digits alone.
fn bare(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

/// A social security number with a valid form.
pub fn ssn(number: u32) -> String {
    format!("{:03}-{:02}-{:04}", 501 + number % 90, 11 + number / 90 % 80, 2468 + number % 7000)
}

/// A Visa number with a good check digit, in groups of four.
pub fn card(number: u32) -> String {
    let body = format!("45395787{:07}", 6_362_148 + u64::from(number) % 3_000_000);
    let digits: Vec<u32> = body.chars().filter_map(|digit| digit.to_digit(10)).collect();
    // From the right, every other digit is doubled, the first of them beside the check digit.
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| match (at % 2, digit * 2) {
            (0, double) => double / 10 + double % 10,
            _ => *digit,
        })
        .sum();
    let all = format!("{body}{}", (10 - sum % 10) % 10);
    [&all[..4], &all[4..8], &all[8..12], &all[12..]].join(" ")
}

/// An AWS access key id.
pub fn aws_access_key(number: u32) -> String {
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut state = u64::from(number) * 2 + 0x9e37_79b9_7f4a_7c15;
    let body: String = (0..16)
        .map(|_| {
            // A generator that gives every letter its turn; it need not be a good one.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(LETTERS[(state >> 59) as usize])
        })
        .collect();
    ["AK", "IA", &body].concat()
}

/// An e-mail address.
pub fn email(number: u32) -> String {
    format!("w.harriman{}{}{}", number + 70_421, "@", "example.org")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_have_the_form_that_they_should_have() {
        for number in [0, 1, 89, 90, 7201, 4_000_000_000] {
            let card = bare(&card(number));
            assert_eq!((card.len(), ssn(number).len(), aws_access_key(number).len()), (16, 11, 20));
            let sum: u32 = card
                .chars()
                .rev()
                .filter_map(|digit| digit.to_digit(10))
                .enumerate()
                .map(|(at, digit)| if at % 2 == 1 { digit * 2 / 10 + digit * 2 % 10 } else { digit })
                .sum();
            assert_eq!(sum % 10, 0, "{card}");
        }
        assert_ne!(aws_access_key(1), aws_access_key(2));
    }

    #[test]
    fn a_leak_is_seen_in_each_form() {
        let letter = Letter::new(3);
        assert_eq!(letter.leaks(letter.text.as_bytes()).len(), 5, "but for the digits alone");
        let wide: Vec<u8> = ssn(3).encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(letter.leaks(&wide), [ssn(3)]);
        assert!(letter.leaks(b"***-**-2471").is_empty());
    }
}
