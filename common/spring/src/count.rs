//! Counts the documents of a file.

/// Limit for the documents of a file. Each is a source of its own in an answer, with the file's whole name.
const MAX_DOCUMENTS: usize = 1000;

/// Adds a document to those of its file.
///
/// # Errors
/// The file has too many documents.
pub(crate) fn add<T>(documents: &mut Vec<T>, document: T) -> Result<(), String> {
    if documents.len() == MAX_DOCUMENTS {
        return Err(format!("more than {MAX_DOCUMENTS} documents: merge some, or move some to another file"));
    }
    documents.push(document);
    Ok(())
}
