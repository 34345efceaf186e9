//! nginx's configuration language: words, quotes, comments, blocks. Knows no directive's meaning.

/// One directive, with its block if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directive {
    pub(super) words: Vec<String>,
    pub(super) block: Option<Vec<Directive>>,
    pub(super) line: usize,
}

impl Directive {
    pub(super) fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }
}

/// A file that is no nginx configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct SyntaxError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: &'static str,
}

/// Blocks in blocks: real files have four.
const DEPTH_MAX: usize = 16;

#[derive(Debug, PartialEq)]
enum Token {
    Word(String),
    Open,
    Close,
    End,
}

pub(super) fn parse(text: &str) -> Result<Vec<Directive>, SyntaxError> {
    let tokens = tokens(text)?;
    let mut at = 0;
    let directives = block(&tokens, &mut at, 0)?;
    match tokens.get(at) {
        None => Ok(directives),
        Some((_, line)) => Err(SyntaxError { line: *line, problem: "a } without a {" }),
    }
}

fn block(
    tokens: &[(Token, usize)],
    at: &mut usize,
    depth: usize,
) -> Result<Vec<Directive>, SyntaxError> {
    let mut directives = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut first_line = 0;
    while let Some((token, line)) = tokens.get(*at) {
        match token {
            Token::Word(word) => {
                if words.is_empty() {
                    first_line = *line;
                }
                words.push(word.clone());
            }
            Token::End if words.is_empty() => {}
            Token::End => {
                let words = std::mem::take(&mut words);
                directives.push(Directive { words, block: None, line: first_line });
            }
            Token::Open if words.is_empty() => {
                return Err(SyntaxError { line: *line, problem: "a { without a name" });
            }
            Token::Open if depth == DEPTH_MAX => {
                return Err(SyntaxError { line: *line, problem: "too many blocks in blocks" });
            }
            Token::Open => {
                *at += 1;
                let inner = block(tokens, at, depth + 1)?;
                if !matches!(tokens.get(*at), Some((Token::Close, _))) {
                    return Err(SyntaxError { line: first_line, problem: "a block without end" });
                }
                let words = std::mem::take(&mut words);
                directives.push(Directive { words, block: Some(inner), line: first_line });
            }
            Token::Close => break,
        }
        *at += 1;
    }
    if words.is_empty() {
        return Ok(directives);
    }
    Err(SyntaxError { line: first_line, problem: "a directive without ;" })
}

fn tokens(text: &str) -> Result<Vec<(Token, usize)>, SyntaxError> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\n' => line += 1,
            c if c.is_whitespace() => {}
            '#' => while rest.next_if(|c| *c != '\n').is_some() {},
            '{' => tokens.push((Token::Open, line)),
            '}' => tokens.push((Token::Close, line)),
            ';' => tokens.push((Token::End, line)),
            '"' | '\'' => {
                let (begun, mut word) = (line, String::new());
                loop {
                    match rest.next() {
                        Some(end) if end == c => break,
                        // Only the quote itself is escaped; \d stays \d.
                        Some('\\') if rest.peek() == Some(&c) => word.extend(rest.next()),
                        Some(other) => {
                            line += usize::from(other == '\n');
                            word.push(other);
                        }
                        None => {
                            return Err(SyntaxError {
                                line: begun,
                                problem: "a quote without end",
                            });
                        }
                    }
                }
                tokens.push((Token::Word(word), begun));
            }
            first => {
                let mut word = String::from(first);
                let variable = |word: &str, c: char| c == '{' && word.ends_with('$');
                while let Some(c) = rest.peek().copied() {
                    let ends = c.is_whitespace() || matches!(c, ';' | '{');
                    if ends && !variable(&word, c) {
                        break;
                    }
                    word.push(c);
                    rest.next();
                }
                tokens.push((Token::Word(word), line));
            }
        }
    }
    Ok(tokens)
}
