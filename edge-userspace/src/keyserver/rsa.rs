//! The RSA private operation itself, on ciphertexts: what no safe interface offers, for all of them
//! check padding themselves and say so. AWS-LC's is blinded, of constant time in the key and the
//! result, and verified against faults (its `rsa_default_private_transform`); the padding is judged
//! in `premaster`, where nobody can see the outcome. The `rsa` crate is not of constant time
//! (RUSTSEC-2023-0071, "Marvin").

#![expect(unsafe_code, reason = "AWS-LC's raw RSA has no safe interface")]

use std::ptr::NonNull;

use aws_lc_sys::{
    CBS, CBS_init, ERR_clear_error, EVP_PKEY_free, EVP_PKEY_get1_RSA, EVP_parse_private_key, RSA, RSA_NO_PADDING,
    RSA_decrypt, RSA_free, RSA_private_key_from_bytes, RSA_size,
};
use zeroize::Zeroizing;

use super::pem::Form;

/// A private key that decrypts. AWS-LC wipes it when it is freed.
#[derive(Debug)]
pub(super) struct Decryptor(NonNull<RSA>);

// SAFETY: an RSA object has no ties to a thread, and AWS-LC guards what it changes during private
// operations (blinding, Montgomery forms) by locks of its own: "an RSA may be used concurrently"
// (openssl/rsa.h). No function that mutates it is called here after its making.
unsafe impl Send for Decryptor {}
// SAFETY: as above.
unsafe impl Sync for Decryptor {}

impl Drop for Decryptor {
    fn drop(&mut self) {
        // SAFETY: this object owns the one reference it got when it was made.
        unsafe { RSA_free(self.0.as_ptr()) }
    }
}

impl Decryptor {
    /// From DER; `None` if it is no RSA key.
    pub(super) fn new(form: Form, der: &[u8]) -> Option<Self> {
        let rsa = match form {
            // SAFETY: pointer and length are those of a slice, which is only read.
            Form::Pkcs1 => unsafe { RSA_private_key_from_bytes(der.as_ptr(), der.len()) },
            Form::Pkcs8 => pkcs8(der),
            Form::Sec1 => return None,
        };
        NonNull::new(rsa).map(Self)
    }

    /// Bytes of the modulus.
    pub(super) fn bytes(&self) -> usize {
        // SAFETY: the object is live.
        usize::try_from(unsafe { RSA_size(self.0.as_ptr()) }).unwrap_or(0)
    }

    /// `ciphertext` to the private exponent, modulo the modulus, as long as the modulus, leading
    /// zeros included. `None` if it is not as long as the modulus, or no number between 1 and the
    /// modulus less 1, which its sender knows.
    pub(super) fn raw(&self, ciphertext: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let length = self.bytes();
        if ciphertext.len() != length {
            return None;
        }
        let mut block = Zeroizing::new(vec![0; length]);
        let mut written = 0;
        // SAFETY: `block` has room for `length` bytes, which is RSA_size as the function demands,
        // and `written` is a size_t to write to; the input is a slice that is only read, and does
        // not overlap.
        let done = unsafe {
            RSA_decrypt(
                self.0.as_ptr(),
                &raw mut written,
                block.as_mut_ptr(),
                length,
                ciphertext.as_ptr(),
                length,
                RSA_NO_PADDING,
            )
        };
        if done != 1 || written != length {
            // SAFETY: clears this thread's queue of error codes, which holds no references.
            unsafe { ERR_clear_error() };
            return None;
        }
        Some(block)
    }
}

/// The RSA key in a PKCS#8 document; null if there is none.
fn pkcs8(der: &[u8]) -> *mut RSA {
    let mut bytes = CBS {
        data: std::ptr::null(),
        len: 0,
    };
    // SAFETY: `bytes` borrows `der`, which outlives it; the parser only reads. What it returns is
    // null or a reference that is given back below; EVP_PKEY_get1_RSA returns null or a reference
    // of its own.
    unsafe {
        CBS_init(&raw mut bytes, der.as_ptr(), der.len());
        let key = EVP_parse_private_key(&raw mut bytes);
        if key.is_null() {
            ERR_clear_error();
            return std::ptr::null_mut();
        }
        let rsa = EVP_PKEY_get1_RSA(key);
        EVP_PKEY_free(key);
        ERR_clear_error();
        rsa
    }
}

#[cfg(test)]
impl Decryptor {
    /// What a client sends for `block`, sound or not: to the public exponent, modulo the modulus.
    pub(super) fn encrypt(&self, block: &[u8]) -> Vec<u8> {
        let mut out = vec![0; self.bytes()];
        let mut written = 0;
        // SAFETY: `out` has room for RSA_size bytes, as the function demands; the input is a slice
        // that is only read.
        let done = unsafe {
            aws_lc_sys::RSA_encrypt(
                self.0.as_ptr(),
                &raw mut written,
                out.as_mut_ptr(),
                out.len(),
                block.as_ptr(),
                block.len(),
                RSA_NO_PADDING,
            )
        };
        assert_eq!((done, written), (1, out.len()));
        out
    }
}
