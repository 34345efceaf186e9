//! Makes a small picture of a large one. Pure computing over an open file: no database, no waiting;
//! runs on a thread that may block. The header is read first, and what it announces is checked before
//! a single pixel is decoded.

use std::io::{BufRead, Cursor, Seek};

use image::{
    DynamicImage, GenericImageView as _, ImageDecoder as _, ImageFormat, ImageReader, Limits,
    codecs::jpeg::JpegEncoder, imageops::FilterType,
};

use super::sizes::{Method, Size};

/// Pixels a picture may have: more than any camera of today makes, 110 MB as RGB.
const PIXELS_MAX: u64 = 36_000_000;
/// The longest edge, in pixels; beyond it are bombs and panoramas.
const EDGE_MAX: u32 = 30_000;
/// Bytes one decoding may allocate.
pub(super) const ALLOCATED_MAX: u64 = 192 * 1024 * 1024;
/// The quality of JPEG thumbnails: no visible loss at these sizes, a third of the bytes of 100.
const JPEG_QUALITY: u8 = 84;

/// Why there is no thumbnail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Not a picture of a kind we decode, or a damaged one.
    NotAPicture,
    /// More pixels than we decode.
    TooLarge,
}

/// A finished thumbnail.
pub(super) struct Picture {
    pub(super) format: Format,
    pub(super) bytes: Vec<u8>,
}

/// What thumbnails are encoded as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Jpeg,
    Png,
}

impl Format {
    pub(super) const ALL: [Self; 2] = [Self::Jpeg, Self::Png];

    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::Jpeg => "jpg",
            Self::Png => "png",
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
        }
    }
}

/// Makes the thumbnail of a file: its first frame, upright, never larger than the original.
pub(super) fn shrink(
    file: impl BufRead + Seek,
    size: Option<Size>,
    method: Method,
) -> Result<Picture, Refusal> {
    let picture = decode(file)?;
    let small = match size {
        Some(size) => resized(picture, size, method),
        None => picture,
    };
    encode(small)
}

fn decode(file: impl BufRead + Seek) -> Result<DynamicImage, Refusal> {
    let reader = ImageReader::new(file).with_guessed_format();
    let mut reader = reader.map_err(|_| Refusal::NotAPicture)?;
    let known = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Gif, ImageFormat::WebP];
    if !reader.format().is_some_and(|format| known.contains(&format)) {
        return Err(Refusal::NotAPicture);
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(EDGE_MAX);
    limits.max_image_height = Some(EDGE_MAX);
    limits.max_alloc = Some(ALLOCATED_MAX);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(refusal)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels > PIXELS_MAX || decoder.total_bytes() > ALLOCATED_MAX {
        return Err(Refusal::TooLarge);
    }
    let orientation = decoder.orientation().ok();
    let mut picture = DynamicImage::from_decoder(decoder).map_err(refusal)?;
    if let Some(orientation) = orientation {
        picture.apply_orientation(orientation);
    }
    Ok(picture)
}

fn refusal(error: image::ImageError) -> Refusal {
    match error {
        image::ImageError::Limits(_) => Refusal::TooLarge,
        _ => Refusal::NotAPicture,
    }
}

/// Scales into the box, or fills it and cuts off what hangs over.
///
/// Source: Matrix v1.19, client-server, "Thumbnails": never enlarges.
fn resized(picture: DynamicImage, size: Size, method: Method) -> DynamicImage {
    let (width, height) = picture.dimensions();
    let (wide, high) = (size.width.min(width), size.height.min(height));
    // A quick halving first: the good filter is slow on many pixels and no better for it.
    let rough = |picture: DynamicImage, wide: u32, high: u32| {
        if width / 4 > wide && height / 4 > high {
            picture.thumbnail(wide * 4, high * 4)
        } else {
            picture
        }
    };
    match method {
        Method::Scale if width <= size.width && height <= size.height => picture,
        Method::Scale => rough(picture, size.width, size.height).resize(
            size.width,
            size.height,
            FilterType::CatmullRom,
        ),
        Method::Crop if (wide, high) == (width, height) => picture,
        Method::Crop => {
            let (full_width, full_height) = (width, height);
            let edge = wide.max(high);
            let small_enough = full_width.min(full_height) / 4 <= edge;
            let picture = if small_enough {
                picture
            } else {
                let factor = f64::from(edge * 4) / f64::from(full_width.min(full_height));
                let scaled = |length: u32| (f64::from(length) * factor).ceil() as u32;
                picture.thumbnail(scaled(full_width), scaled(full_height))
            };
            picture.resize_to_fill(wide, high, FilterType::CatmullRom)
        }
    }
}

/// Encodes as PNG what has transparency, as JPEG what has none.
fn encode(picture: DynamicImage) -> Result<Picture, Refusal> {
    let mut bytes = Cursor::new(Vec::new());
    let (format, encoded) = if picture.color().has_alpha() {
        let picture = picture.into_rgba8();
        if picture.pixels().any(|pixel| pixel.0[3] != u8::MAX) {
            (Format::Png, picture.write_to(&mut bytes, ImageFormat::Png))
        } else {
            (Format::Jpeg, encode_jpeg(picture.into(), &mut bytes))
        }
    } else {
        (Format::Jpeg, encode_jpeg(picture, &mut bytes))
    };
    encoded.map_err(|_| Refusal::NotAPicture)?;
    Ok(Picture { format, bytes: bytes.into_inner() })
}

fn encode_jpeg(picture: DynamicImage, bytes: &mut Cursor<Vec<u8>>) -> image::ImageResult<()> {
    let encoder = JpegEncoder::new_with_quality(bytes, JPEG_QUALITY);
    picture.into_rgb8().write_with_encoder(encoder)
}

#[cfg(test)]
mod tests;
