//! Pictures of every kind get smaller; bombs and broken ones are refused.

use image::{Rgba, RgbaImage};

use super::*;

const BOX: Size = Size { width: 32, height: 24 };

/// A picture of two halves, left red and right blue.
fn drawn(width: u32, height: u32, alpha: u8) -> DynamicImage {
    let picture = RgbaImage::from_fn(width, height, |x, _| {
        if x < width / 2 { Rgba([255, 0, 0, alpha]) } else { Rgba([0, 0, 255, alpha]) }
    });
    picture.into()
}

fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let picture = match format {
        ImageFormat::Jpeg => DynamicImage::from(picture.to_rgb8()),
        _ => picture.clone(),
    };
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn shrunk(bytes: &[u8], size: Option<Size>, method: Method) -> Result<DynamicImage, Refusal> {
    let made = shrink(Cursor::new(bytes), size, method)?;
    let format = match made.format {
        Format::Jpeg => ImageFormat::Jpeg,
        Format::Png => ImageFormat::Png,
    };
    Ok(image::load_from_memory_with_format(&made.bytes, format).unwrap())
}

#[test]
fn every_format_is_scaled_and_cropped() {
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Gif, ImageFormat::WebP] {
        let bytes = encoded(&drawn(400, 100, 255), format);
        let scaled = shrunk(&bytes, Some(BOX), Method::Scale).unwrap();
        assert_eq!(scaled.dimensions(), (32, 8), "{format:?}");
        let left = scaled.get_pixel(2, 4).0;
        assert!(left[0] > 200 && left[2] < 60, "{format:?}: {left:?}");
        let cropped = shrunk(&bytes, Some(BOX), Method::Crop).unwrap();
        assert_eq!(cropped.dimensions(), (32, 24), "{format:?}");
    }
}

#[test]
fn transparency_stays() {
    let bytes = encoded(&drawn(100, 100, 100), ImageFormat::Png);
    let made = shrink(Cursor::new(&bytes), Some(BOX), Method::Scale).unwrap();
    assert_eq!(made.format, Format::Png);
    let opaque = encoded(&drawn(100, 100, 255), ImageFormat::Png);
    let made = shrink(Cursor::new(&opaque), Some(BOX), Method::Scale).unwrap();
    assert_eq!(made.format, Format::Jpeg);
}

#[test]
fn nothing_is_enlarged() {
    let bytes = encoded(&drawn(10, 8, 255), ImageFormat::Png);
    for method in [Method::Scale, Method::Crop] {
        assert_eq!(shrunk(&bytes, Some(BOX), method).unwrap().dimensions(), (10, 8));
    }
    let narrow = encoded(&drawn(400, 8, 255), ImageFormat::Png);
    assert_eq!(shrunk(&narrow, Some(BOX), Method::Crop).unwrap().dimensions(), (32, 8));
    assert_eq!(shrunk(&narrow, None, Method::Scale).unwrap().dimensions(), (400, 8));
}

#[test]
fn large_ones_take_the_short_way() {
    let bytes = encoded(&drawn(2000, 1500, 255), ImageFormat::Jpeg);
    assert_eq!(shrunk(&bytes, Some(BOX), Method::Scale).unwrap().dimensions(), (32, 24));
    let cropped = shrunk(&bytes, Some(Size { width: 32, height: 32 }), Method::Crop).unwrap();
    assert_eq!(cropped.dimensions(), (32, 32));
}

#[test]
fn announced_size_is_checked_before_decoding() {
    // A PNG says its size in the bytes 16 to 24, a GIF in 6 to 10; the checksum is made to fit.
    let mut png = encoded(&drawn(8, 8, 255), ImageFormat::Png);
    for (width, height) in [(20_000u32, 20_000u32), (4_000_000_000, 1), (1, 2_000_000_000)] {
        png[16..20].copy_from_slice(&width.to_be_bytes());
        png[20..24].copy_from_slice(&height.to_be_bytes());
        let crc = crc32(&png[12..29]);
        png[29..33].copy_from_slice(&crc.to_be_bytes());
        assert!(shrunk(&png, Some(BOX), Method::Scale).is_err());
    }
    png[16..20].copy_from_slice(&20_000u32.to_be_bytes());
    png[20..24].copy_from_slice(&20_000u32.to_be_bytes());
    let crc = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(shrunk(&png, Some(BOX), Method::Scale), Err(Refusal::TooLarge));
    let mut gif = encoded(&drawn(8, 8, 255), ImageFormat::Gif);
    gif[6..10].copy_from_slice(&[0xff; 4]);
    assert_eq!(shrunk(&gif, Some(BOX), Method::Scale), Err(Refusal::TooLarge));
}

#[test]
fn damaged_ones_are_refused() {
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Gif, ImageFormat::WebP] {
        let whole = encoded(&drawn(64, 64, 255), format);
        // Cut anywhere: refused or (a JPEG may end early) decoded, never a panic.
        for length in (0..whole.len()).step_by(7) {
            let _ = shrunk(&whole[..length], Some(BOX), Method::Scale);
        }
        assert_eq!(shrunk(&whole[..12], Some(BOX), Method::Crop), Err(Refusal::NotAPicture));
        // One byte changed anywhere: the same.
        for place in (0..whole.len()).step_by(5) {
            let mut changed = whole.clone();
            changed[place] ^= 0x55;
            let _ = shrunk(&changed, Some(BOX), Method::Crop);
        }
    }
    for text in [&b""[..], b"<svg/>", b"BM", b"not a picture at all, only a longer text"] {
        assert_eq!(shrunk(text, Some(BOX), Method::Scale), Err(Refusal::NotAPicture));
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}
