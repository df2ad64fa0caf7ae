//! The XML of queue messages.

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A list of messages, as all operations that return messages send it.
#[derive(Debug, Deserialize)]
pub(super) struct MessageList<M> {
    #[serde(rename = "QueueMessage", default = "Vec::new")]
    pub(super) messages: Vec<M>,
}

/// Reads a message list. Message texts that `M` does not name are skipped without being decoded.
pub(super) fn messages<M: DeserializeOwned>(body: &[u8]) -> Result<Vec<M>, String> {
    // Azure sends a byte order mark.
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let text = std::str::from_utf8(body).map_err(|_| "the message list is not UTF-8".to_owned())?;
    quick_xml::de::from_str::<MessageList<M>>(text)
        .map(|list| list.messages)
        // The parser's message may quote the text of a message.
        .map_err(|_| "the message list is not the expected XML".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "PascalCase")]
    struct Message {
        message_id: String,
    }

    #[test]
    fn lists() {
        let one = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><QueueMessagesList><QueueMessage><MessageId>a</MessageId>\
                   <MessageText>&lt;not&gt; \u{1F4A9} base64 </MessageText></QueueMessage></QueueMessagesList>";
        let ids = |text: &str| {
            messages::<Message>(text.as_bytes())
                .map(|list| list.into_iter().map(|m| m.message_id).collect::<Vec<_>>())
        };
        assert_eq!(ids(one), Ok(vec!["a".to_owned()]));
        assert_eq!(ids("<QueueMessagesList />"), Ok(vec![]));
        assert_eq!(ids("<QueueMessagesList></QueueMessagesList>"), Ok(vec![]));
        for bad in [
            "",
            "{}",
            "<html><body>secret",
            "<QueueMessagesList><QueueMessage/></QueueMessagesList>",
        ] {
            let error = ids(bad).expect_err(bad);
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(messages::<Message>(&[0xff, 0xfe]).is_err());
    }
}
