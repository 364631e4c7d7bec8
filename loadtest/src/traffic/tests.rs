//! Lines, files, the veil, the decoder and the tap.
